//! Places and links, in real namespaces. Needs root, like the runner itself.

use std::io;
use std::net::Ipv4Addr;

use ostro_local::link::{self, BRIDGE};
use ostro_local::place::Place;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn two_pods_and_the_mesh_reach_each_other_and_the_host_sees_nothing() {
    let mesh = Place::open("mesh", || Ok(())).unwrap();
    link::bridge(&mesh).await.unwrap();
    let addresses = [Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 0, 3)];
    let mut pods = Vec::new();
    for (serial, address) in (1..).zip(addresses) {
        let pod = Place::open("pod", || Ok(())).unwrap();
        link::attach(&mesh, &pod, serial, address).await.unwrap();
        pods.push(pod);
    }

    let [first, second] = &pods[..] else { panic!("two pods") };
    let listener = first.spawn(TcpListener::bind((addresses[0], 80))).await.unwrap().unwrap();
    let peer = second.spawn(TcpStream::connect((addresses[0], 80))).await.unwrap().unwrap();
    assert_eq!(peer.local_addr().unwrap().ip(), addresses[1]);
    let (_, from) = first.spawn(async move { listener.accept().await }).await.unwrap().unwrap();
    assert_eq!(from.ip(), addresses[1]);

    let control = mesh.spawn(TcpListener::bind((BRIDGE, 15010))).await.unwrap().unwrap();
    second.spawn(TcpStream::connect((BRIDGE, 15010))).await.unwrap().unwrap();
    drop(control);

    let outside = std::fs::read_to_string("/proc/net/dev").unwrap();
    assert!(!outside.contains("mesh0") && !outside.contains(" m1:"), "{outside}");
}

/// A bridge takes the lowest address of its ports unless it has one of its own; then every pod that joins
/// may cut off those that know the bridge by the old one.
#[tokio::test]
async fn a_pod_that_joins_does_not_change_the_bridge() {
    let mesh = Place::open("mesh", || Ok(())).unwrap();
    link::bridge(&mesh).await.unwrap();
    let address = async || {
        let read = mesh.spawn(async {
            let output = tokio::process::Command::new("ip").args(["link", "show", "mesh0"]).output().await?;
            io::Result::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        });
        let text = read.await.unwrap().unwrap();
        text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).map(str::to_owned).unwrap()
    };
    let before = address().await;
    let mut pods = Vec::new();
    // Addresses of interfaces are drawn by chance; eight draws are lower than any given one 255 in 256 times.
    for serial in 1..=8 {
        let pod = Place::open("pod", || Ok(())).unwrap();
        link::attach(&mesh, &pod, u32::from(serial), Ipv4Addr::new(10, 244, 1, serial)).await.unwrap();
        pods.push(pod);
        assert_eq!(address().await, before);
    }
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
