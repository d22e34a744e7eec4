//! Floor 2: the data plane's mind without its body: xDS compiled and matched, no sockets, no clock.

pub mod regex;
