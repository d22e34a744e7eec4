//! A gibibyte each way, of TCP and HTTP/1: all of it arrives as it was sent, and the proxy holds next to nothing of it.

use crate::harness::{Case, Check, Done, Family, Site, Stage, Wire, case};

pub fn family() -> Family {
    Family::new("bulk", [tcp(), http1()].into_iter().flatten().collect()).own_process()
}

crate::tests!();

const SIZE: u64 = 1 << 30;
/// How much more the proxy may hold at the worst moment than before.
const GROWTH_MAX: u64 = 8 << 20;

/// A transfer, and how much the proxy grew by it: `script` says what arrived. A small exchange goes before it.
fn weighed(
    name: &str,
    arrange: fn(&mut Site),
    script: impl Fn(&mut Stage<'_>, u64) -> Done<Check> + Send + Sync + 'static,
) -> Case {
    let told = name.to_owned();
    case(
        name,
        arrange,
        move |x| {
            script(x, 64 * 1024)?;
            let before = x.proxy.memory();
            x.proxy.forget_peak();
            let begun = std::time::Instant::now();
            let check = script(x, SIZE)?;
            let grown = x.proxy.peak_memory().saturating_sub(before);
            println!(
                "    {}: bulk {told}: {} KiB more at the peak, {} ms",
                x.proxy.subject,
                grown >> 10,
                begun.elapsed().as_millis()
            );
            x.see(check.told());
            x.see(match grown < GROWTH_MAX {
                true => "less than 8 MiB more".to_owned(),
                false => "8 MiB more, or more".to_owned(),
            });
            Ok(())
        },
        "1024 MiB, less than 8 MiB more",
    )
}

/// Runs both sides at once: what the second comes to.
fn both<T: Send>(
    sender: impl FnOnce() -> Done + Send,
    receiver: impl FnOnce() -> Done<T> + Send,
) -> Done<T> {
    std::thread::scope(|scope| {
        let sending = scope.spawn(sender);
        let received = receiver();
        sending.join().unwrap()?;
        received
    })
}

fn tcp() -> Vec<Case> {
    fn bytes(site: &mut Site) {
        site.tcp();
    }
    fn pass(from: &mut Wire, to: &mut Wire, size: u64) -> Done<Check> {
        both(
            || from.send_body(0, size),
            || {
                let mut check = Check::default();
                to.check_body(&mut check, size)?;
                Ok(check)
            },
        )
    }
    vec![
        weighed("TCP, up", bytes, |x, size| {
            let mut client = x.client()?;
            let mut upstream = x.upstream()?;
            pass(&mut client, &mut upstream, size)
        }),
        weighed("TCP, down", bytes, |x, size| {
            let mut client = x.client()?;
            let mut upstream = x.upstream()?;
            pass(&mut upstream, &mut client, size)
        }),
    ]
}

/// A connection of HTTP/1 that serves one request and closes.
fn upload_http1(upstream: &mut Wire) -> Done<Check> {
    let head = upstream.head()?;
    let check = match head.get("content-length").parse() {
        Ok(length) => {
            let mut check = Check::default();
            upstream.check_body(&mut check, length)?;
            check
        }
        Err(_) => upstream.check_chunks()?,
    };
    upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")?;
    Ok(check)
}

fn download_http1(client: &mut Wire) -> Done<Check> {
    let head = client.head()?;
    match head.get("content-length").parse() {
        Ok(length) => {
            let mut check = Check::default();
            client.check_body(&mut check, length)?;
            Ok(check)
        }
        Err(_) => client.check_chunks(),
    }
}

fn http1() -> Vec<Case> {
    vec![
        weighed("HTTP/1 with a length, up", |_| {}, |x, size| {
            let mut client = x.client()?;
            client.send(format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {size}\r\n\r\n"))?;
            let mut upstream = x.upstream()?;
            both(|| client.send_body(0, size), || upload_http1(&mut upstream))
        }),
        weighed("HTTP/1 in chunks, up", |_| {}, |x, size| {
            let mut client = x.client()?;
            client.send("POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n")?;
            let mut upstream = x.upstream()?;
            both(|| client.send_chunks(size), || upload_http1(&mut upstream))
        }),
        weighed("HTTP/1 with a length, down", |_| {}, |x, size| {
            let (mut client, mut upstream, _) = x.begin_get()?;
            upstream.send(format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n"))?;
            both(|| upstream.send_body(0, size), || download_http1(&mut client))
        }),
        weighed("HTTP/1 in chunks, down", |_| {}, |x, size| {
            let (mut client, mut upstream, _) = x.begin_get()?;
            upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")?;
            both(|| upstream.send_chunks(size), || download_http1(&mut client))
        }),
    ]
}
