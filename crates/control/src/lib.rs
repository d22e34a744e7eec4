//! Floor 4: the control plane process, wiring only.
