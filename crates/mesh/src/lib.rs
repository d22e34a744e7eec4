//! Floor 2: the model, an immutable snapshot of the mesh, and what changed between two.
