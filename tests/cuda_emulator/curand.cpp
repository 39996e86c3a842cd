//! cuRAND: generators can be set up, as candle does with each device, but give no numbers: this crate draws its own.

#include "memory.h"

using curandStatus = int;

struct Generator {
    int type;
};

API curandStatus curandCreateGenerator(Generator** generator, int type) {
    *generator = new Generator{type};
    return 0;
}

API curandStatus curandDestroyGenerator(Generator* generator) {
    delete generator;
    return 0;
}

API curandStatus curandSetStream(Generator*, void*) { return 0; }
API curandStatus curandSetPseudoRandomGeneratorSeed(Generator*, unsigned long long) { return 0; }
API curandStatus curandSetGeneratorOffset(Generator*, unsigned long long) { return 0; }

API curandStatus curandGetVersion(int* version) {
    *version = 100400;
    return 0;
}

#define NOT_EMULATED(name) \
    API void name() { emulator::not_emulated(#name); }

NOT_EMULATED(curandGenerate)
NOT_EMULATED(curandGenerateLogNormal)
NOT_EMULATED(curandGenerateLogNormalDouble)
NOT_EMULATED(curandGenerateLongLong)
NOT_EMULATED(curandGenerateNormal)
NOT_EMULATED(curandGenerateNormalDouble)
NOT_EMULATED(curandGeneratePoisson)
NOT_EMULATED(curandGenerateUniform)
NOT_EMULATED(curandGenerateUniformDouble)
