// Attention of grouped heads in f64.
#pragma once
#include "check.h"

struct HeadsCase {
    int batch, tokens, keys, heads, kv_heads, dim, v_dim, offset;
    float scale;
};

// Probabilities (batch, heads, tokens, keys) and, from them, the result (batch, tokens, heads, v_dim).
template <class T>
std::vector<double> reference(const HeadsCase& c, const Vector<T>& q, const Vector<T>& k, const Vector<T>& v,
                              const Vector<int>& lengths, const Vector<u8>& mask, std::vector<double>& weights) {
    std::vector<double> out(static_cast<size_t>(c.batch) * c.tokens * c.heads * c.v_dim);
    weights.clear();
    for (int b = 0; b < c.batch; b++)
        for (int h = 0; h < c.heads; h++)
            for (int t = 0; t < c.tokens; t++) {
                int kv = h / (c.heads / c.kv_heads);
                size_t row = (static_cast<size_t>(b) * c.tokens + t) * c.heads + h;
                auto place = [&](int j) { return (static_cast<size_t>(b) * c.keys + j) * c.kv_heads + kv; };
                std::vector<double> p(c.keys, -INFINITY);
                for (int j = 0; j < c.keys; j++) {
                    if (i64(j) > i64(t) + c.offset || (!lengths.empty() && j >= lengths[b])) continue;
                    if (!mask.empty() && !mask[(static_cast<size_t>(b) * c.tokens + t) * c.keys + j]) continue;
                    p[j] = 0;
                    for (int d = 0; d < c.dim; d++)
                        p[j] += c.scale * double(real(q[row * c.dim + d])) * real(k[place(j) * c.dim + d]);
                }
                softmax(p);
                for (int j = 0; j < c.keys; j++)
                    for (int d = 0; d < c.v_dim; d++) out[row * c.v_dim + d] += p[j] * real(v[place(j) * c.v_dim + d]);
                weights.insert(weights.end(), p.begin(), p.end());
            }
    return out;
}
