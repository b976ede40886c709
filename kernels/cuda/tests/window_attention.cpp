#include "../window_attention.cu"

#include "check.h"

// As `vision/src/window.rs` cuts a map, spelt out in other words: the padded map is rolled, then cut.
template <class T>
std::vector<double> reference(const Vector<T>& qkv, const Vector<T>& pad, const Vector<float>& table,
                              const Vector<float>& sharpness, const Map& m, int batch, int heads, int dim) {
    int tokens = m.rows * m.columns, padded_rows = (m.rows + m.window_rows - 1) / m.window_rows * m.window_rows;
    int padded_columns = (m.columns + m.window_columns - 1) / m.window_columns * m.window_columns;
    Vector<int> rolled(padded_rows * padded_columns, -1), region(padded_rows * padded_columns, 0);
    for (int r = 0; r < m.rows; r++)
        for (int c = 0; c < m.columns; c++) {
            int height = m.roll_first ? m.rows : padded_rows, width = m.roll_first ? m.columns : padded_columns;
            int to_row = (r - m.shift_rows + height) % height, to_column = (c - m.shift_columns + width) % width;
            rolled[to_row * padded_columns + to_column] = r * m.columns + c;
        }
    // The three slices of transformers' mask, the later ones over the earlier.
    auto slices = [](int size, int window, int shift) {
        return std::vector<std::pair<int, int>>{{0, size - window}, {size - window, size - shift}, {size - shift, size}};
    };
    int count = 0;
    for (auto [top, bottom] : slices(padded_rows, m.window_rows, m.shift_rows))
        for (auto [left, right] : slices(padded_columns, m.window_columns, m.shift_columns)) {
            for (int r = top; r < bottom; r++)
                for (int c = left; c < right; c++) region[r * padded_columns + c] = count;
            count++;
        }
    bool shifted = m.shift_rows || m.shift_columns;
    std::vector<double> out(static_cast<size_t>(batch) * tokens * heads * dim);
    for (int b = 0; b < batch; b++)
        for (int h = 0; h < heads; h++)
            for (int top = 0; top < padded_rows; top += m.window_rows)
                for (int left = 0; left < padded_columns; left += m.window_columns) {
                    Vector<int> places;
                    for (int r = 0; r < m.window_rows; r++)
                        for (int c = 0; c < m.window_columns; c++) places.push_back((top + r) * padded_columns + left + c);
                    auto element = [&](int place, int part, int d) -> double {
                        int token = rolled[place];
                        size_t inside = (part * heads + h) * dim + d;
                        if (token < 0) return pad.empty() ? 0.0 : real(pad[inside]);
                        return real(qkv[(static_cast<size_t>(b) * tokens + token) * 3 * heads * dim + inside]);
                    };
                    auto length = [&](int place, int part) {
                        double squares = 0;
                        for (int d = 0; d < dim; d++) squares += element(place, part, d) * element(place, part, d);
                        return std::max(std::sqrt(squares), 1e-12);
                    };
                    for (int q : places) {
                        if (rolled[q] < 0) continue;
                        std::vector<double> row;
                        for (int k : places) {
                            double s = 0;
                            for (int d = 0; d < dim; d++) s += element(q, 0, d) * element(k, 1, d);
                            s *= sharpness.empty() ? 1 / std::sqrt(dim) : sharpness[h] / length(q, 0) / length(k, 1);
                            int down = q / padded_columns - k / padded_columns + m.window_rows - 1;
                            int across = q % padded_columns - k % padded_columns + m.window_columns - 1;
                            s += table[(down * (2 * m.window_columns - 1) + across) * heads + h];
                            row.push_back(s + (shifted && region[q] != region[k] ? m.hidden : 0));
                        }
                        softmax(row);
                        for (int d = 0; d < dim; d++) {
                            double& x = out[((static_cast<size_t>(b) * tokens + rolled[q]) * heads + h) * dim + d];
                            for (size_t k = 0; k < places.size(); k++) x += row[k] * element(places[k], 2, d);
                        }
                    }
                }
    return out;
}

template <class T, class Kernel>
void check(Random& random, Kernel kernel, int padded_dim, Map m, int batch, int heads, int dim, bool cosine, bool with_pad) {
    int tokens = m.rows * m.columns, area = m.window_rows * m.window_columns;
    int windows = (m.rows + m.window_rows - 1) / m.window_rows * ((m.columns + m.window_columns - 1) / m.window_columns);
    int offsets = (2 * m.window_rows - 1) * (2 * m.window_columns - 1);
    auto qkv = random_vector<T>(random, static_cast<size_t>(batch) * tokens * 3 * heads * dim, 2);
    auto pad = random_vector<T>(random, with_pad ? 3 * heads * dim : 0, 2);
    auto table = random_vector<float>(random, offsets * heads, 2);
    Vector<float> sharpness;
    for (int h = 0; cosine && h < heads; h++) sharpness.push_back(4 + 2.0f * h);
    auto out = unwritten<T>(static_cast<size_t>(batch) * tokens * heads * dim);
    size_t shared = 3 * 64 * (padded_dim + 8) * 2 + 512 + offsets * 4;
    LAUNCH(dim3(windows * ((area + 63) / 64), heads, batch), 128, shared, kernel, qkv.data(), with_pad ? pad.data() : nullptr, table.data(), cosine ? sharpness.data() : nullptr, out.data(), m, heads, dim);
    char what[200];
    std::snprintf(what, sizeof what, "map %dx%d window %dx%d shift %d,%d roll_first %d heads %d dim %d cosine %d", m.rows,
                  m.columns, m.window_rows, m.window_columns, m.shift_rows, m.shift_columns, m.roll_first, heads, dim, cosine);
    // Values up to 2; probabilities, and f32 operands, carry bf16's relative error of 2^-9.
    compare(what, out, reference(qkv, pad, table, sharpness, m, batch, heads, dim), sizeof(T) == 4 ? 0.04 : 0.025, 0.005);
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        // Swin-T's first stage in small, and a window larger than a panel of queries.
        check<bf16>(random, window_attention_bf16_d32, 32, {14, 14, 7, 7, 3, 3, 0, -100}, 1, 2, 32, false, true);
        check<bf16>(random, window_attention_bf16_d32, 32, {12, 12, 12, 12, 0, 0, 0, -100}, 1, 1, 32, true, false);
        check<bf16>(random, window_attention_bf16_d64, 64, {9, 10, 9, 9, 4, 4, 0, -200}, 1, 1, 64, true, true);
        check<float>(random, window_attention_f32_d64, 64, {5, 6, 4, 3, 2, 1, 1, -100}, 1, 2, 50, false, true);
        for (int i = 0; i < 12; i++) {
            Map m;
            m.rows = random.between(1, 11), m.columns = random.between(1, 11);
            m.window_rows = random.between(1, 8), m.window_columns = random.between(1, 8);
            m.shift_rows = random.below(2) * (m.window_rows / 2), m.shift_columns = random.below(2) * (m.window_columns / 2);
            m.roll_first = random.below(2), m.hidden = -100;
            int batch = random.between(1, 2), heads = random.between(1, 2), dim = 2 * random.between(1, 16);
            bool cosine = random.below(2), with_pad = random.below(2);
            if (i % 2)
                check<bf16>(random, window_attention_bf16_d32, 32, m, batch, heads, dim, cosine, with_pad);
            else
                check<float>(random, window_attention_f32_d32, 32, m, batch, heads, dim, cosine, with_pad);
        }
    });
}
