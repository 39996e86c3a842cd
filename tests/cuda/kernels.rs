//! The kernels' sources.

use ops::cuda;

#[test]
fn every_kernel_compiles() {
    let compiled = cuda::compile_kernels().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(compiled > 10, "{compiled}");
}
