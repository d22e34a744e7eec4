//! Windows (RFC 9113 section 5.2).

use crate::config::WINDOW_MAX;

/// What the peer may send us, and what of it is to be given back.
#[derive(Debug)]
pub struct Receive {
    /// What the peer may send, as far as it can know.
    window: u32,
    /// Consumed, and not given back yet.
    owed: u32,
    /// The whole window.
    size: u32,
}

impl Receive {
    /// A window of a size that the peer has been told.
    pub fn new(size: u32) -> Receive {
        Receive { window: size, owed: 0, size }
    }

    /// So many bytes came. False: more than they might.
    pub fn take(&mut self, bytes: u32) -> bool {
        match self.window.checked_sub(bytes) {
            Some(left) => {
                self.window = left;
                true
            }
            None => false,
        }
    }

    /// So many of them are consumed. Tells by how much the peer's window is to be widened now: once half of it is owed,
    /// so that updates are rare and the peer seldom waits.
    pub fn consumed(&mut self, bytes: usize) -> Option<u32> {
        let outstanding = self.size.saturating_sub(self.window).saturating_sub(self.owed);
        self.owed += u32::try_from(bytes).unwrap_or(u32::MAX).min(outstanding);
        if self.owed < self.size / 2 {
            return None;
        }
        let update = std::mem::take(&mut self.owed);
        self.window += update;
        (update > 0).then_some(update)
    }
}

/// What we may send the peer. SETTINGS may make it negative.
#[derive(Debug)]
pub struct Send {
    window: i64,
}

impl Send {
    /// A window of this size.
    pub fn new(size: u32) -> Send {
        Send { window: i64::from(size) }
    }

    /// Bytes that may be sent now.
    pub fn available(&self) -> usize {
        usize::try_from(self.window).unwrap_or(0)
    }

    /// So many bytes are sent: no more than are [`available`](Self::available).
    pub fn sent(&mut self, bytes: usize) {
        self.window -= bytes as i64;
    }

    /// Changes it; false if it is wider now than windows may be.
    pub fn change(&mut self, by: i64) -> bool {
        self.window += by;
        self.window <= i64::from(WINDOW_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_window_is_given_back_at_a_time() {
        let mut receive = Receive::new(100);
        assert!(receive.take(60) && !receive.take(41) && receive.take(40));
        assert_eq!(receive.consumed(49), None);
        assert_eq!(receive.consumed(2), Some(51));
        assert!(receive.take(51) && !receive.take(1));
        assert_eq!(receive.consumed(usize::MAX), Some(100), "never more than came");
        assert_eq!(receive.consumed(7), None);
        assert!(receive.take(100));
    }

    #[test]
    fn what_may_be_sent_can_be_negative() {
        let mut send = Send::new(10);
        send.sent(10);
        assert!(send.change(-5) && send.available() == 0);
        assert!(send.change(6) && send.available() == 1);
        assert!(!send.change(i64::from(WINDOW_MAX)));
    }
}
