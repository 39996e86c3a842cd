// The update of `torch.optim.AdamW` (Loshchilov, Hutter 2019) with clipping of the gradient's norm, for all parameters
// at once, without synchronizing with the host. One block for each chunk of a parameter.

struct Chunk {
    float* parameter;
    const float* grad;
    float* exp_avg;
    float* exp_avg_sq;
    u32 count;
    u32 group;
};

struct Group {
    double learning_rate;
    double weight_decay;
};

struct State {
    double loss;
    double norm;
    double scale;
    double correction1;
    double root_correction2;
    // Updates made: those with a finite loss and norm.
    u64 steps;
    u64 finite;
};

// `partials[blockIdx.x]`: the sum of squares of the gradient of a chunk. f32 would overflow at 2e19.
extern "C" __global__ void gradient_norm(const Chunk* chunks, double* partials) {
    Chunk chunk = chunks[blockIdx.x];
    double sum = 0.0;
#pragma unroll 8
    for (u32 index = threadIdx.x; index < chunk.count; index += blockDim.x) {
        double value = (double)chunk.grad[index];
        sum += value * value;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// One block. If loss or norm is not finite, only loss, norm and `finite` change.
extern "C" __global__ void begin_update(
    const double* partials, u64 num_chunks, const float* losses, u64 num_losses, double max_norm, double beta1,
    double beta2, State* state) {
    double squares = 0.0;
    for (u64 index = threadIdx.x; index < num_chunks; index += blockDim.x) squares += partials[index];
    squares = block_sum(squares);
    if (threadIdx.x != 0) return;
    double loss = 0.0;
    for (u64 index = 0; index < num_losses; ++index) loss += (double)losses[index];
    double norm = sqrt(squares);
    state->loss = loss;
    state->norm = norm;
    state->finite = is_finite(loss) && is_finite(norm);
    if (!state->finite) return;
    double factor = max_norm > 0.0 ? max_norm / (norm + 1e-6) : 1.0;
    state->scale = factor < 1.0 ? factor : 1.0;
    state->steps += 1;
    state->correction1 = 1.0 - pow(beta1, (double)state->steps);
    state->root_correction2 = sqrt(1.0 - pow(beta2, (double)state->steps));
}

// The formula of cpu/adamw.rs; factors are rounded to f32 once.
extern "C" __global__ void adamw(
    const Chunk* chunks, const Group* groups, const State* state, double beta1, double beta2, double eps) {
    if (!state->finite) return;
    Chunk chunk = chunks[blockIdx.x];
    Group group = groups[chunk.group];
    float grad_scale = (float)state->scale;
    float decay = (float)(1.0 - group.learning_rate * group.weight_decay);
    float one_minus_beta1 = (float)(1.0 - beta1);
    float square_decay = (float)beta2;
    float one_minus_beta2 = (float)(1.0 - beta2);
    float root_correction = (float)state->root_correction2;
    float epsilon = (float)eps;
    float step_size = (float)(group.learning_rate / state->correction1);
    for (u32 index = threadIdx.x; index < chunk.count; index += blockDim.x) {
        float grad = chunk.grad[index] * grad_scale, parameter = chunk.parameter[index];
        float mean = chunk.exp_avg[index], square = chunk.exp_avg_sq[index];
        mean += (grad - mean) * one_minus_beta1;
        square = square * square_decay + grad * grad * one_minus_beta2;
        float denominator = sqrtf(square) / root_correction + epsilon;
        chunk.exp_avg[index] = mean;
        chunk.exp_avg_sq[index] = square;
        chunk.parameter[index] = parameter * decay - step_size * (mean / denominator);
    }
}
