//! `/memory`: what the system says of the process. The allocator keeps no books that could be read without disturbing it.

use std::sync::Arc;

use serde_json::json;

use super::Admin;
use super::answer::Answer;
use super::query::Query;

/// Bytes in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident memory that is no file's.
    pub allocated: u64,
    /// Address space of data.
    pub heap: u64,
    /// Resident memory.
    pub resident: u64,
}

impl Memory {
    /// Of this process; all zero where the system does not say.
    pub fn now() -> Memory {
        std::fs::read_to_string("/proc/self/status").map(|status| Memory::read(&status)).unwrap_or_default()
    }

    fn read(status: &str) -> Memory {
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let kib = line
                .and_then(|line| line.trim().strip_suffix("kB"))
                .and_then(|kib| kib.trim().parse::<u64>().ok());
            kib.unwrap_or_default() * 1024
        };
        Memory { allocated: bytes("RssAnon"), heap: bytes("VmData"), resident: bytes("VmRSS") }
    }
}

pub(super) fn memory(_: &Arc<Admin>, _: &Query) -> Answer {
    let Memory { allocated, heap, resident } = Memory::now();
    Answer::json(&json!({
        "allocated": allocated.to_string(),
        "heap_size": heap.to_string(),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": resident.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\nVmData:\t      10 kB\n";
        assert_eq!(Memory::read(status), Memory { allocated: 1 << 20, heap: 10_240, resident: 2 << 20 });
        assert!(Memory::now().resident > 0);
    }
}
