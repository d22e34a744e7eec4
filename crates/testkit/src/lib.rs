//! Test support: real Envoys, xDS clients, meshes in one process. Never a dependency of the product.
