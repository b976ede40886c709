// The next token of each row of logits: temperature, top-k, top-p, min-p, and one draw with a given uniform number.
//
//   logits (rows, vocabulary) f32; -infinity is a token that is not allowed, NaN must not occur
//   temperature (rows): 0 takes the largest logit. top_k (rows): 0 keeps all. top_p (rows) in (0, 1]. min_p (rows) in [0, 1]
//   uniform (rows) in [0, 1)
//   token (rows): of equal logits the lower index comes first. -1 where no token is allowed
//
// The order of filters, and that of the walk that the draw makes, are those of the sampler on the CPU: down from the most
// probable token where top_k or top_p is on, else by index. Weights are fixed-point numbers of 40 bits below the most
// probable token's, so that their sums do not depend on the order of addition: the same numbers give the same token on
// every card and launch.
//
// Launch: grid (rows), whole warps from 256 to 1024 threads, shared bytes 256 * 8 + 32 * 8 + 24.
#include "types.cuh"

namespace {

constexpr int BUCKETS = 256;

// What one row is drawn from. A token's place is 64 bits, its logit's order in the upper half and its index, negated, in
// the lower: places differ between tokens, and the larger one comes first.
struct Candidates {
    const float* logits;
    int vocabulary;
    float best, inverse_temperature, min_p;
    u64 cut;        // tokens below this place are out
    bool by_index;  // places are of the index alone

    DEVICE float weight(float logit) const { return expf((logit - best) * inverse_temperature); }

    DEVICE u64 place(int token) const {
        u32 bits = float_to_bits(logits[token] + 0.0f);  // -0 is 0
        u32 order = bits >> 31 ? ~bits : bits | 0x80000000u;
        return static_cast<u64>(by_index ? 0 : order) << 32 | static_cast<u32>(~token);
    }
    // 0 for a token that is out. 2^40 units for the most probable.
    DEVICE u64 mass(int token) const {
        if (place(token) < cut) return 0;
        float w = weight(logits[token]);
        return w < min_p ? 0 : static_cast<u64>(w * 1099511627776.0f);
    }
    DEVICE u64 one(int token) const { return place(token) >= cut; }
};

struct SamplingShared {
    u64* buckets;  // (BUCKETS)
    u64* scratch;  // (32)
    u64* found;    // (3): prefix, what is left of the target, what the chosen bucket holds
};

template <class Measure>
DEVICE u64 total(const Candidates& c, const SamplingShared& shared, Measure measure) {
    u64 sum = 0;
    for (int i = threadIdx.x; i < c.vocabulary; i += blockDim.x) sum += measure(i);
    return block_reduce(sum, shared.scratch, Sum());
}

// The place, from the top down, at which the running total of `measure` passes `target`, which is below the total.
// Byte by byte: the bucket in which it passes fixes the next byte of the place.
template <class Measure>
DEVICE u64 descend(const Candidates& c, const SamplingShared& shared, u64 target, Measure measure) {
    u64 prefix = 0, known = 0;
    for (int shift = c.by_index ? 24 : 56; shift >= 0; shift -= 8) {
        if (c.by_index && shift == 24) known = ~0ull << 32;
        for (int i = threadIdx.x; i < BUCKETS; i += blockDim.x) shared.buckets[i] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < c.vocabulary; i += blockDim.x) {
            u64 place = c.place(i);
            if ((place & known) != prefix) continue;
            u64 x = measure(i);
            if (x) atomicAdd(&shared.buckets[place >> shift & 255], x);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int bucket = BUCKETS - 1;
            while (bucket > 0 && shared.buckets[bucket] <= target) target -= shared.buckets[bucket--];
            shared.found[0] = prefix | static_cast<u64>(bucket) << shift;
            shared.found[1] = target;
        }
        __syncthreads();
        prefix = shared.found[0], target = shared.found[1];
        known |= 255ull << shift;
        __syncthreads();
    }
    return prefix;
}

DEVICE int sample(Candidates& c, const SamplingShared& shared, float temperature, int top_k, float top_p, float min_p,
                  float uniform) {
    float best = -infinity();
    for (int i = threadIdx.x; i < c.vocabulary; i += blockDim.x) best = fmaxf(best, c.logits[i]);
    c.best = block_reduce(best, reinterpret_cast<float*>(shared.scratch), Greatest());
    if (c.best == -infinity()) return -1;
    c.cut = 0, c.by_index = false, c.min_p = 0.0f;
    c.inverse_temperature = temperature > 0.0f ? 1.0f / temperature : 0.0f;
    auto one = [&](int i) { return c.one(i); };
    auto mass = [&](int i) { return c.mass(i); };
    bool ordered = temperature == 0.0f;
    u64 place;
    if (temperature == 0.0f) {
        place = descend(c, shared, 0, one);
    } else {
        if (top_k > 0 && top_k < c.vocabulary) c.cut = descend(c, shared, top_k - 1, one), ordered = true;
        if (top_p < 1.0f) {
            // A token stays when those before it do not reach the mass: the last one is where the total passes it less 1.
            u64 enough = static_cast<u64>(static_cast<double>(top_p) * total(c, shared, mass));
            c.cut = descend(c, shared, enough > 0 ? enough - 1 : 0, mass), ordered = true;
        }
        c.min_p = min_p;
        u64 all = total(c, shared, mass), target = static_cast<u64>(static_cast<double>(uniform) * all);
        c.by_index = !ordered;
        place = descend(c, shared, target < all ? target : all - 1, mass);
    }
    return static_cast<int>(~static_cast<u32>(place));
}

}  // namespace

KERNEL(1024)
sample_tokens(const float* logits, const float* temperature, const int* top_k, const float* top_p, const float* min_p,
              const float* uniform, int* token, int vocabulary) {
    DYNAMIC_SHARED(memory);
    SamplingShared shared;
    shared.buckets = reinterpret_cast<u64*>(memory);
    shared.scratch = shared.buckets + BUCKETS;
    shared.found = shared.scratch + 32;
    int row = blockIdx.x;
    Candidates candidates = {};
    candidates.logits = logits + static_cast<i64>(row) * vocabulary, candidates.vocabulary = vocabulary;
    int chosen = sample(candidates, shared, temperature[row], top_k[row], top_p[row], min_p[row], uniform[row]);
    if (threadIdx.x == 0) token[row] = chosen;
}
