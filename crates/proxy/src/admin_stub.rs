//! stub
use std::{cell::RefCell, rc::Rc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use crate::{control::Control, worker::Scope};
pub(crate) async fn run(listener: std::net::TcpListener, control: Rc<RefCell<Control>>) {
    let _ = listener.set_nonblocking(true);
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((mut s, _)) = listener.accept().await else { continue };
        let control = Rc::clone(&control);
        tokio::task::spawn_local(async move {
            {
            let mut buf = Vec::new(); let mut b = [0; 4096];
            loop { match s.read(&mut b).await { Ok(n) if n > 0 => buf.extend_from_slice(&b[..n]), _ => return } if buf.windows(4).any(|w| w == b"\r\n\r\n") { break } }
            let text = String::from_utf8_lossy(&buf).into_owned();
            let path = text.split(' ').nth(1).unwrap_or("").to_owned();
            let body = if path.starts_with("/listeners") {
                let mut parts = Vec::new();
                for (name, at) in control.borrow().bound() { for at in at { parts.push(format!("{{\"name\":\"{name}\",\"local_address\":{{\"socket_address\":{{\"address\":\"{}\",\"port_value\":{}}}}}}}", at.ip(), at.port())); } }
                format!("{{\"listener_statuses\":[{}]}}", parts.join(","))
            } else if path.starts_with("/stats") {
                let mut out = String::new(); let mut all = std::collections::BTreeMap::<String, i64>::new();
                control.borrow().shared.stats.visit(&mut |p, _, n, v| { let v = match v { crate::stats::Value::Counter(v) => v as i64, crate::stats::Value::Gauge(v) => v, _ => return }; *all.entry(format!("{p}{n}")).or_default() += v; });
                for (k, v) in all { out.push_str(&format!("{k}: {v}\n")); } out
            } else if path.starts_with("/drain_listeners") { control.borrow_mut().drain(Scope::All, !path.contains("graceful")); "OK\n".to_owned() }
            else if path.starts_with("/ready") { "LIVE\n".to_owned() } else { "OK\n".to_owned() };
            let _ = s.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncontent-type: text/plain\r\n\r\n{body}", body.len()).as_bytes()).await;
            }
        });
    }
}
