//! Several processes with a real MPI: the test starts itself under `mpiexec`.
fn main() {}
