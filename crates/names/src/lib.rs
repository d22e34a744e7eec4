//! Floor 0: typed, interned names and the limits every table is bound by.
