//! Floor 3: traffic capture rules.
