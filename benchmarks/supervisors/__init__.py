"""infer-dev beside the supervisors people use, each with the same children, in one run."""
