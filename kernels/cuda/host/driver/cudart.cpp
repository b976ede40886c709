// Programs are linked with the runtime for the sake of kernels that are not simulated.
