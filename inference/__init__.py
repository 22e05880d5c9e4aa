"""The pure core: bytes, tensors and structs in, redshifts and records out; no AWS, no environment."""
