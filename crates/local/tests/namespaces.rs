//! Places and links, in real namespaces. Needs root, like the runner itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ostro_local::link::{self, GATEWAY, GATEWAY6, v6};
use ostro_local::place::Place;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn two_pods_and_the_mesh_reach_each_other_and_the_host_sees_nothing() {
    let mesh = Place::open("mesh", || Ok(())).unwrap();
    link::ground(&mesh).await.unwrap();
    let addresses = [Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 0, 3)];
    let mut pods = Vec::new();
    for (serial, address) in (1..).zip(addresses) {
        let pod = Place::open("pod", || Ok(())).unwrap();
        link::attach(&mesh, &pod, serial, address).await.unwrap();
        pods.push(pod);
    }

    let [first, second] = &pods[..] else { panic!("two pods") };
    for (to, expected) in [
        (IpAddr::from(addresses[0]), IpAddr::from(addresses[1])),
        (v6(addresses[0]).into(), v6(addresses[1]).into()),
    ] {
        let listener = first.spawn(TcpListener::bind((to, 80))).await.unwrap().unwrap();
        let peer = second.spawn(TcpStream::connect((to, 80))).await.unwrap().unwrap();
        assert_eq!(peer.local_addr().unwrap().ip(), expected);
        let (_, from) = first.spawn(async move { listener.accept().await }).await.unwrap().unwrap();
        assert_eq!(from.ip(), expected, "a pod is known by its address");
    }
    for gateway in [IpAddr::from(GATEWAY), GATEWAY6.into()] {
        let control = mesh.spawn(TcpListener::bind((gateway, 15010))).await.unwrap().unwrap();
        second.spawn(TcpStream::connect((gateway, 15010))).await.unwrap().unwrap();
        drop(control);
    }

    let outside = std::fs::read_to_string("/proc/net/dev").unwrap();
    assert!(!outside.contains(" m1:"), "{outside}");
}

#[tokio::test]
async fn processes_of_a_place_end_with_it() {
    let place = Place::open("pod", || Ok(())).unwrap();
    let pid = place
        .spawn(async {
            let mut child = tokio::process::Command::new("sleep").arg("1000").kill_on_drop(true).spawn()?;
            let pid = child.id();
            tokio::spawn(async move { child.wait().await });
            io::Result::Ok(pid)
        })
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    drop(place);
    // Killed, which takes the kernel a moment; the test may still have to reap it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") || state.contains(") X ") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "still there: {state}");
        std::thread::yield_now();
    }
}
