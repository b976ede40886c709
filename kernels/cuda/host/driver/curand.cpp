// Random numbers of the distributions that cuRAND gives; not its numbers.
#include <random>

#include "unsimulated.h"

#define CURAND extern "C" __attribute__((visibility("default"))) int

using Generator = std::mt19937_64;

namespace {

template <class T, class Distribution>
int fill(Generator* generator, T* at, size_t count, Distribution distribution) {
    for (size_t i = 0; i < count; i++) at[i] = distribution(*generator);
    return 0;
}

}  // namespace

CURAND curandCreateGenerator(Generator** generator, int) { return *generator = new Generator, 0; }
CURAND curandDestroyGenerator(Generator* generator) { return delete generator, 0; }
CURAND curandSetStream(Generator*, void*) { return 0; }
CURAND curandSetPseudoRandomGeneratorSeed(Generator* generator, unsigned long long seed) { return generator->seed(seed), 0; }
CURAND curandSetGeneratorOffset(Generator* generator, unsigned long long count) { return generator->discard(count), 0; }
CURAND curandGenerateUniform(Generator* generator, float* at, size_t count) {
    return fill(generator, at, count, std::uniform_real_distribution<float>());
}
CURAND curandGenerateUniformDouble(Generator* generator, double* at, size_t count) {
    return fill(generator, at, count, std::uniform_real_distribution<double>());
}
CURAND curandGenerateNormal(Generator* generator, float* at, size_t count, float mean, float deviation) {
    return fill(generator, at, count, std::normal_distribution<float>(mean, deviation));
}
CURAND curandGenerateNormalDouble(Generator* generator, double* at, size_t count, double mean, double deviation) {
    return fill(generator, at, count, std::normal_distribution<double>(mean, deviation));
}
UNSIMULATED(curandGenerate)
UNSIMULATED(curandGenerateLongLong)
UNSIMULATED(curandGenerateLogNormal)
UNSIMULATED(curandGenerateLogNormalDouble)
UNSIMULATED(curandGeneratePoisson)
