#include "../attention_combine.cu"
#include "../mla_decode.cu"

#include "check.h"

template <class Kernel>
void check(Random& random, Kernel kernel, int padded_rank, int batch, int heads, int rank, int rope, int capacity, int splits) {
    int width = rank + rope;
    float scale = 0.3f / std::sqrt(float(width));
    auto q = random_vector<bf16>(random, static_cast<size_t>(batch) * heads * width, 3);
    auto cache = random_vector<bf16>(random, static_cast<size_t>(batch) * capacity * width, 3);
    Vector<int> lengths;
    for (int b = 0; b < batch; b++) lengths.push_back(b == 1 ? 0 : random.between(1, capacity));
    auto out = unwritten<bf16>(static_cast<size_t>(batch) * heads * rank);
    auto partial = unwritten<float>(splits * out.size());
    auto statistics = unwritten<float>(static_cast<size_t>(splits) * batch * heads * 2);
    LAUNCH(dim3((heads + 15) / 16, splits, batch), 256, 80 * (padded_rank + 72) * 2 + 5696, kernel, q.data(), cache.data(), i64(capacity) * width, lengths.data(), out.data(), partial.data(), statistics.data(), heads, rank, rope, scale);
    if (splits > 1)
        LAUNCH(batch * heads, 32, 0, attention_combine_bf16, partial.data(), statistics.data(), out.data(), batch * heads, rank, splits);
    std::vector<double> expected;
    for (int row = 0; row < batch * heads; row++) {
        int b = row / heads;
        const bf16* keys = cache.data() + static_cast<size_t>(b) * capacity * width;
        std::vector<double> p(lengths[b]);
        for (int j = 0; j < lengths[b]; j++)
            for (int d = 0; d < width; d++)
                p[j] += double(scale) * real(q[static_cast<size_t>(row) * width + d]) * real(keys[j * width + d]);
        softmax(p);
        for (int d = 0; d < rank; d++) {
            double x = 0;
            for (int j = 0; j < lengths[b]; j++) x += p[j] * real(keys[j * width + d]);
            expected.push_back(x);
        }
    }
    char what[120];
    std::snprintf(what, sizeof what, "heads %d rank %d rope %d capacity %d splits %d", heads, rank, rope, capacity, splits);
    // Values up to 3, and probabilities, rounded to bf16.
    compare(what, out, expected, 0.012, 0.006);
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        check(random, mla_decode_r512, 512, 1, 16, 512, 64, 70, 1);
        check(random, mla_decode_r512, 512, 1, 5, 384, 32, 100, 3);
        check(random, mla_decode_r128, 128, 2, 20, 128, 64, 130, 2);
        for (int i = 0; i < 6; i++)
            check(random, mla_decode_r128, 128, random.between(1, 3), random.between(1, 33), 8 * random.between(1, 16),
                  8 * random.between(0, 8), random.between(1, 140), random.between(1, 4));
    });
}
