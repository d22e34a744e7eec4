//! What a script works with: the client's and the upstream's side of one site, and the notes it takes.

use std::fmt::Display;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::h2::H2;
use super::http1::Message;
use super::logs::Line;
use super::process::{Either, Proxy, first_readable, readable, readable_either};
use super::site::Site;
use super::wire::{Done, PATIENCE, Wire, trouble};

/// One playing of a case.
pub struct Stage<'a> {
    pub proxy: &'a Proxy,
    pub site: &'a Site,
    seen: Vec<String>,
}

impl<'a> Stage<'a> {
    pub fn new(proxy: &'a Proxy, site: &'a Site) -> Stage<'a> {
        Stage { proxy, site, seen: Vec::new() }
    }

    /// Notes what was seen.
    pub fn see(&mut self, what: impl Display) {
        self.seen.push(what.to_string().replace('\r', "\\r").replace('\n', "\\n"));
    }

    /// All notes, with the trouble that ended the script, if any.
    pub fn told(mut self, done: Done) -> String {
        if let Err(trouble) = done {
            self.seen.push(format!("TROUBLE {trouble}"));
        }
        self.seen.join(", ")
    }

    /// A connection to the case's listener.
    pub fn client(&self) -> Done<Wire> {
        Wire::connect(self.proxy.listener(&self.site.name)?)
    }

    /// The same, with small socket buffers on our side.
    pub fn narrow_client(&self) -> Done<Wire> {
        Wire::connect_narrow(self.proxy.listener(&self.site.name)?, 32 * 1024)
    }

    /// The same, speaking HTTP/2: preface and settings are sent.
    pub fn h2_client(&self) -> Done<H2> {
        H2::client(self.client()?, &[])
    }

    fn socket(&self, cluster: usize, endpoint: usize) -> Done<&TcpListener> {
        match self.site.clusters.get(cluster).and_then(|c| c.sockets.get(endpoint)) {
            Some(socket) => Ok(socket),
            None => trouble("no such upstream socket"),
        }
    }

    /// The next connection to the upstream.
    pub fn upstream(&self) -> Done<Wire> {
        self.upstream_at(0, 0)
    }

    /// The next connection to this endpoint of this cluster, by number.
    pub fn upstream_at(&self, cluster: usize, endpoint: usize) -> Done<Wire> {
        let socket = self.socket(cluster, endpoint)?;
        if !readable(socket, PATIENCE) {
            return trouble("no connection to the upstream");
        }
        Wire::new(socket.accept()?.0)
    }

    /// The next connection to the upstream, which speaks HTTP/2.
    pub fn h2_upstream(&self) -> Done<H2> {
        H2::server(self.upstream()?, &[])
    }

    /// A handle of the upstream socket for another thread.
    pub fn listener(&self) -> Done<TcpListener> {
        Ok(self.socket(0, 0)?.try_clone()?)
    }

    /// The same, of this endpoint.
    pub fn listener_at(&self, endpoint: usize) -> Done<TcpListener> {
        Ok(self.socket(0, endpoint)?.try_clone()?)
    }

    /// Whether another connection to the upstream is waiting, without waiting for one.
    pub fn another_upstream(&self) -> Done<bool> {
        Ok(readable(self.socket(0, 0)?, Duration::ZERO))
    }

    /// Notes whether the upstream was reached at all; to be asked once nothing more can come.
    pub fn see_untouched(&mut self) -> Done {
        let touched = self.another_upstream()?;
        self.see(if touched { "upstream reached" } else { "upstream untouched" });
        Ok(())
    }

    /// The next line of the access log.
    pub fn log(&self) -> Done<Line> {
        self.proxy.logs.next(&self.site.name, PATIENCE)
    }

    /// Notes status, flags and details of the next line of the access log.
    pub fn see_log(&mut self) -> Done {
        let line = self.log()?;
        self.see(format!("log {}", line.told()));
        Ok(())
    }

    /// Notes status and flags of the next line of the access log.
    pub fn see_verdict(&mut self) -> Done {
        let line = self.log()?;
        self.see(format!("log {}", line.verdict()));
        Ok(())
    }

    /// One plain exchange on these two connections: what the upstream got and what the client got.
    pub fn exchange(&self, client: &mut Wire, upstream: &mut Wire, path: &str) -> Done<(Message, Message)> {
        client.get(path)?;
        let request = upstream.request()?;
        upstream.answer("ok")?;
        Ok((request, client.response()?))
    }
}

impl Stage<'_> {
    /// Sends a whole request on a connection of its own and takes it at the upstream.
    pub fn begin(&self, request: &str) -> Done<(Wire, Wire, Message)> {
        let mut client = self.client()?;
        client.send(request)?;
        let mut upstream = self.upstream()?;
        let request = upstream.request()?;
        Ok((client, upstream, request))
    }

    /// A plain `GET /` that has arrived at the upstream.
    pub fn begin_get(&self) -> Done<(Wire, Wire, Message)> {
        self.begin("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
    }

    /// The answer to bytes that are not expected to reach the upstream: status and end, and the log's verdict.
    pub fn see_refused(&mut self, request: impl AsRef<[u8]>) -> Done {
        let mut client = self.client()?;
        client.offer(request);
        let response = client.response()?;
        self.see(response.status());
        self.see(client.closed()?);
        self.see_untouched()?;
        self.see_verdict()
    }

    /// What becomes of a request that need not be right: `refused 400`, or how it reached the upstream and what followed it
    /// there. `fence` is a good request sent behind it.
    pub fn see_fate(&mut self, request: impl AsRef<[u8]>) -> Done {
        let mut client = self.client()?;
        client.offer(request);
        if readable_either(client.stream()?, self.socket(0, 0)?) == Either::First {
            let answer = match client.response() {
                Ok(response) => format!("refused {}", response.status()),
                Err(_) => "refused without an answer".to_owned(),
            };
            self.see(answer);
            self.see(client.closed()?);
            self.see_untouched()?;
            return self.see_verdict();
        }
        let mut upstream = self.upstream()?;
        upstream.patience(Duration::from_secs(2))?;
        match upstream.request() {
            Ok(request) => {
                self.see(format!("passed {} ({} {})", request.start, request.framing, request.text()))
            }
            Err(trouble) => {
                self.see(format!("passed in part: {trouble}"));
                return self.see_verdict();
            }
        }
        upstream.answer("one")?;
        self.see(client.response()?.brief());
        client.offer("GET /fence HTTP/1.1\r\nhost: a.test\r\n\r\n");
        let then = upstream.request().map_or_else(|_| "nothing".to_owned(), |request| request.start);
        self.see(format!("then {then}"));
        Ok(())
    }

    /// What a client gets for this response of the upstream to a plain `GET`; the upstream's connection stays open.
    pub fn response_through(&self, response: impl AsRef<[u8]>) -> Done<(Message, Wire, Wire)> {
        let (mut client, mut upstream, _) = self.begin_get()?;
        upstream.send(response)?;
        Ok((client.response()?, client, upstream))
    }
}

impl Stage<'_> {
    /// The next attempt at the upstream, on the connection at hand or a new one; nothing if the client is answered first.
    pub fn attempt(&self, client: &Wire, at_hand: Option<Wire>) -> Done<Option<Wire>> {
        let socket = self.socket(0, 0)?;
        let mut at_hand = at_hand;
        loop {
            let mut files = vec![client.stream()?.as_fd(), socket.as_fd()];
            if let Some(wire) = &at_hand {
                files.push(wire.stream()?.as_fd());
            }
            match first_readable(&files) {
                Some(0) => return Ok(None),
                Some(1) => return Ok(Some(self.upstream()?)),
                Some(_) => {
                    let Some(mut wire) = at_hand.take() else { continue };
                    if wire.fill()? {
                        return Ok(Some(wire));
                    }
                }
                None => return trouble("neither an attempt nor an answer"),
            }
        }
    }

    /// Sends a request whose attempts end like these: `close`, `reset`, or bytes to answer with. Notes how many attempts
    /// there were, and what the client got.
    pub fn see_attempts(&mut self, request: &str, ends: &[&str]) -> Done {
        let mut client = self.client()?;
        client.send(request)?;
        let mut at_hand = None;
        let mut count = 0;
        for end in ends {
            let Some(mut upstream) = self.attempt(&client, at_hand.take())? else { break };
            upstream.request()?;
            count += 1;
            match *end {
                "close" => drop(upstream),
                "reset" => upstream.reset()?,
                answer => {
                    upstream.offer(answer);
                    at_hand = Some(upstream);
                }
            }
        }
        let response = client.response()?;
        self.see(format!("{count} attempts"));
        self.see(response.status());
        Ok(())
    }
}
