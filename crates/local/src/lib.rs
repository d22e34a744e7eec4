//! Floor 4: a whole mesh on one machine, pods as network namespaces.
