//! The loop that drives a store: stream, files, interests and time-outs, one thing at a time.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::consumer::{Consumer, Moment, Origin, PathSource, Source};
use crate::delivery::Delivery;
use crate::files::{Decode, Files, Uses};
use crate::handle::Handle;
use crate::kind::Kind;
use crate::limits;
use crate::mux::{Mux, Request};
use crate::records::Records;
use crate::store::{Ask, Store};
use crate::wire::{self, Ads, Event, Response};

/// Drives a store for good: begins its start, asks the control plane and files for what is wanted, and hands over what they
/// say. Dropping the future stops all that; what is held stays in force. `decode` is for files; without it, and without
/// `ads`, what would come from there is reported and not had.
pub async fn run<C: Consumer>(
    store: &mut Store<C>,
    ads: Option<Ads>,
    decode: Option<Decode>,
    handle: &Handle,
) -> std::convert::Infallible {
    let mut driver = Driver {
        records: store.records(),
        mux: Mux::new(ads.as_ref().map(|ads| ads.node.clone()).unwrap_or_default()),
        link: ads.as_ref().map(Link::new),
        files: decode.and_then(watch_files),
        asked: Vec::new(),
        last_reason: None,
    };
    store.begin(Moment::now());
    loop {
        driver.follow(store);
        driver.send(store);
        driver.wait(store, handle).await;
    }
}

fn watch_files(decode: Decode) -> Option<Files> {
    match Files::new(decode) {
        Ok(files) => Some(files),
        Err(error) => {
            tracing::error!(%error, "files cannot be watched");
            None
        }
    }
}

/// The stream's task, and the queue of the stream it has now.
struct Link {
    events: mpsc::Receiver<Event>,
    requests: Option<mpsc::Sender<Request>>,
    task: JoinHandle<()>,
}

impl Link {
    fn new(ads: &Ads) -> Link {
        let (events, task) = wire::start(ads);
        Link { events, requests: None, task }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Driver {
    records: Records,
    mux: Mux,
    link: Option<Link>,
    files: Option<Files>,
    /// Kinds that were ever asked of the control plane.
    asked: Vec<Kind>,
    /// Why there was no stream last; said once.
    last_reason: Option<String>,
}

/// What is to be done next.
enum Next {
    Event(Option<Event>),
    /// The stream takes requests again.
    Room,
    Files,
    Interests,
    Time,
}

impl Driver {
    /// Asks the sources for what the store wants.
    fn follow<C: Consumer>(&mut self, store: &mut Store<C>) {
        for ask in store.take_asks() {
            match ask {
                Ask::All(kind, Source::Ads) => {
                    self.note_asked(kind);
                    self.mux.want_all(kind);
                }
                Ask::Want((kind, name), Source::Ads) => {
                    self.note_asked(kind);
                    self.mux.want(kind, &name);
                }
                Ask::Unwant((kind, name), Source::Ads) => self.mux.unwant(kind, &name),
                Ask::All(kind, Source::Path(path)) => self.want_file(store, &path, kind, None),
                Ask::Want((kind, name), Source::Path(path)) => {
                    self.want_file(store, &path, kind, Some(&name))
                }
                Ask::Unwant((kind, name), Source::Path(path)) => {
                    if let Some(files) = &mut self.files {
                        files.unwant(&path, kind, &name);
                    }
                }
            }
        }
        for kind in &self.asked {
            self.mux.hold(*kind, store.holds(*kind));
        }
    }

    fn note_asked(&mut self, kind: Kind) {
        if !self.asked.contains(&kind) {
            self.asked.push(kind);
            if self.link.is_none() {
                tracing::error!(
                    kind = kind.short(),
                    "is to come from a control plane, and none is configured"
                );
            }
        }
    }

    fn want_file<C: Consumer>(
        &mut self,
        store: &Store<C>,
        path: &PathSource,
        kind: Kind,
        name: Option<&Arc<str>>,
    ) {
        let wanted = match &mut self.files {
            Some(files) => files.want(path, kind, name),
            None => Err(format!("{}: files are not read", path.path.display())),
        };
        if let Err(reason) = wanted {
            store.source_failed(kind);
            tracing::error!(kind = kind.short(), %reason);
        }
    }

    /// Gives the stream the requests that it takes at once.
    fn send<C: Consumer>(&mut self, store: &Store<C>) {
        if let Some(requests) = self.link.as_ref().and_then(|link| link.requests.as_ref()) {
            while let Ok(permit) = requests.try_reserve() {
                match self.mux.next(|kind| store.versions(kind)) {
                    Some(request) => permit.send(request),
                    None => break,
                }
            }
        }
        self.records.control_plane().set_pending(self.mux.pending());
    }

    /// Waits for something to do, and does it.
    async fn wait<C: Consumer>(&mut self, store: &mut Store<C>, handle: &Handle) {
        match self.next(store.next_deadline(), handle).await {
            Next::Event(Some(event)) => self.hear(store, event),
            Next::Event(None) => {
                tracing::error!("the task of the stream is gone");
                self.link = None;
            }
            Next::Room => {}
            Next::Files => self.read_files(store),
            Next::Interests => {
                for (key, on) in handle.take_changes() {
                    store.interest(&key, on, Moment::now());
                }
            }
            Next::Time => store.tick(Moment::now()),
        }
    }

    async fn next(&mut self, deadline: Option<std::time::Instant>, handle: &Handle) -> Next {
        let may_read = !self.mux.is_full();
        let has_more = self.mux.pending() > 0;
        let (events, requests) = match &mut self.link {
            Some(Link { events, requests, .. }) => (Some(events), requests.as_ref()),
            None => (None, None),
        };
        let event = async {
            match events {
                Some(events) if may_read => events.recv().await,
                _ => pending().await,
            }
        };
        let room = async {
            match requests {
                // A queue that is closed says so by an event.
                Some(requests) if has_more && requests.reserve().await.is_ok() => {}
                _ => pending().await,
            }
        };
        let files = async {
            match &mut self.files {
                Some(files) => files.changed().await,
                None => pending().await,
            }
        };
        let time = async {
            match deadline {
                Some(at) => sleep_until(Instant::from_std(at)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            event = event => Next::Event(event),
            () = room => Next::Room,
            changed = files => {
                if let Err(error) = changed {
                    tracing::error!(%error, "files are not watched any more");
                    self.files = None;
                }
                Next::Files
            }
            () = handle.changed() => Next::Interests,
            () = time => Next::Time,
        }
    }

    fn hear<C: Consumer>(&mut self, store: &mut Store<C>, event: Event) {
        let Some(link) = &mut self.link else { return };
        match event {
            Event::Opened(dialect, requests) => {
                link.requests = Some(requests);
                self.mux.open(dialect);
                self.records.control_plane().set_connected(true);
                tracing::info!(?dialect, "a stream to the control plane");
            }
            Event::Closed(reason) => {
                link.requests = None;
                self.mux.close();
                self.records.control_plane().set_connected(false);
                self.asked.iter().for_each(|kind| store.source_failed(*kind));
                if self.last_reason.as_ref() == Some(&reason) {
                    tracing::debug!(%reason, "no stream to the control plane");
                } else {
                    tracing::warn!(%reason, "no stream to the control plane; what is held stays in force");
                    self.last_reason = Some(reason);
                }
            }
            Event::Response(response) => self.take(store, response),
        }
    }

    fn take<C: Consumer>(&mut self, store: &mut Store<C>, response: Response) {
        let url = match &response {
            Response::Delta(response) => &response.type_url,
            Response::World(response) => &response.type_url,
        };
        let Some(kind) = self.mux.asked(url) else {
            tracing::warn!(
                type_url = limits::cut(url.clone()),
                "a response of a type that was not asked for"
            );
            return;
        };
        self.last_reason = None;
        let mut delivery = match response {
            Response::Delta(response) => Delivery::of_delta(kind, *response),
            Response::World(response) => Delivery::of_world(kind, *response),
        };
        if let Some(identifier) = delivery.control_plane.take() {
            self.records.control_plane().set_identifier(limits::cut(identifier));
        }
        let (nonce, version) = (std::mem::take(&mut delivery.nonce), delivery.version.to_string());
        let outcome = store.deliver(kind, Origin::Ads, delivery, None, Moment::now());
        self.mux.answer(kind, nonce, version, outcome.reason(kind));
    }

    fn read_files<C: Consumer>(&mut self, store: &mut Store<C>) {
        let Some(files) = &mut self.files else { return };
        for (source, Uses { by_kind }) in files.take_unread() {
            let response = files.read(&source);
            for (kind, names) in by_kind {
                match &response {
                    Ok(response) => {
                        let delivery = Delivery::of_world(kind, response.clone());
                        store.deliver(kind, Origin::File, delivery, names.as_ref(), Moment::now());
                    }
                    Err(reason) => {
                        store.source_failed(kind);
                        tracing::error!(kind = kind.short(), %reason, "a file of resources is not taken");
                    }
                }
            }
        }
    }
}
