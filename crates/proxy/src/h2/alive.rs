//! PINGs that tell whether the peer is alive: Envoy's `connection_keepalive`.

use std::task::Context;

use ostro_engine::Http2Keepalive;
use ostro_http2::ErrorCode;
use tokio::time::Instant;

use super::handle::Handle;
use crate::timers::Timer;

/// Watches over one connection, and closes it when its peer does not answer.
#[derive(Debug)]
pub struct Alive {
    handle: Handle,
    settings: Option<Http2Keepalive>,
    timer: Timer,
    /// When the next PING goes.
    next: Option<Instant>,
    /// By when the one under way is to be answered.
    due: Option<Instant>,
}

impl Alive {
    /// Watches over a connection, if so configured.
    pub fn new(handle: Handle, settings: Option<Http2Keepalive>) -> Alive {
        let mut alive = Alive { handle, settings, timer: Timer::default(), next: None, due: None };
        alive.schedule();
        alive
    }

    fn schedule(&mut self) {
        let interval = self.settings.and_then(|settings| Some((settings.interval?, settings.jitter)));
        self.next = interval
            .map(|(interval, jitter)| Instant::now() + interval + interval.mul_f64(jitter * fastrand::f64()));
    }

    /// Does what is due, and sees to it that the task runs when something is again. To be called whenever the connection's
    /// task runs, before the connection.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        let (Some(settings), false) = (self.settings, self.handle.is_closed()) else { return };
        loop {
            if self.due.is_some() && self.handle.poll_pong(cx).is_ready() {
                self.due = None;
                self.schedule();
            }
            let deadline = self.due.or(self.next);
            if self.timer.poll(cx, deadline).is_pending() {
                return;
            }
            if self.due.take().is_some() {
                tracing::debug!("a PING was not answered");
                return self.handle.close(ErrorCode::NO_ERROR);
            }
            self.handle.ping();
            self.due = Some(Instant::now() + settings.timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use crate::h2::{Config, ConnectionFault, connect};

    const SETTINGS: Http2Keepalive = Http2Keepalive {
        interval: Some(Duration::from_secs(10)),
        timeout: Duration::from_secs(3),
        jitter: 0.0,
        idle_interval: None,
    };

    /// Drives a client's connection; how it ended, and after how long.
    async fn drive(
        socket: DuplexStream,
        settings: Option<Http2Keepalive>,
    ) -> (Result<(), ConnectionFault>, Duration) {
        let began = Instant::now();
        let (driver, handle) = connect(socket, Arc::new(Config::default()));
        let (mut alive, mut driver) = (Alive::new(handle, settings), pin!(driver));
        let ended = poll_fn(|cx| {
            alive.poll(cx);
            driver.as_mut().poll(cx)
        });
        (ended.await, began.elapsed())
    }

    /// Reads until the peer ends; how many PINGs there were, which are answered if so.
    async fn peer(mut socket: DuplexStream, answers: bool) -> usize {
        let (mut seen, mut read) = (Vec::new(), [0; 1024]);
        let mut pings = 0;
        // A settings frame, as a server begins.
        tokio::io::AsyncWriteExt::write_all(&mut socket, &[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        while let Ok(count @ 1..) = socket.read(&mut read).await {
            seen.extend_from_slice(&read[..count]);
            let frame = [0, 0, 8, 6, 0, 0, 0, 0, 0];
            while let Some(place) = seen.windows(17).position(|bytes| bytes.starts_with(&frame)) {
                pings += 1;
                let mut answer: Vec<u8> = seen[place..place + 17].to_vec();
                answer[4] = 1;
                seen.drain(..place + 17);
                if pings == 4 {
                    return pings;
                }
                if answers {
                    tokio::io::AsyncWriteExt::write_all(&mut socket, &answer).await.unwrap();
                }
            }
        }
        pings
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_answer_is_given_up() {
        let (near, far) = duplex(1 << 16);
        let ((ended, after), pings) = tokio::join!(drive(near, Some(SETTINGS)), peer(far, false));
        assert!(ended.is_err());
        assert_eq!((after.as_secs() / 2, pings), (13 / 2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_asked_again() {
        let (near, far) = duplex(1 << 16);
        let ((_, after), pings) = tokio::join!(drive(near, Some(SETTINGS)), peer(far, true));
        assert_eq!((after.as_secs(), pings), (40, 4));
    }
}
