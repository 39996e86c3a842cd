//! Loops compiled for the best instruction set of the machine.

/// A loop over slices that is compiled once per instruction set.
pub trait Kernel {
    type Output;

    /// The loop. Mark it `#[inline(always)]`, like all that it calls: what is not inlined is compiled only for the
    /// baseline. This is a trait because functions passed as values are not inlined reliably.
    fn run(self) -> Self::Output;
}

/// Runs `kernel` compiled for the best instruction set of this machine.
#[inline]
pub fn vectorized<K: Kernel>(kernel: K) -> K::Output {
    struct Run<K>(K);

    impl<K: Kernel> pulp::WithSimd for Run<K> {
        type Output = K::Output;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> K::Output {
            self.0.run()
        }
    }

    pulp::Arch::new().dispatch(Run(kernel))
}
