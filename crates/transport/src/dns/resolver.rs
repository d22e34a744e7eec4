//! The order in which files, cache and servers are asked.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cache::Cache;
use super::conf::{Config, select};
use super::exchange;
use super::message::{Kind, Question, Said};
use super::{Answer, Family, Lookup, LookupError, Resolve, limits};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Resolves names as this host is configured to. Clones share what they know; any worker may ask.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// From the files, and their state when they were read; none: as given, for good.
    config: Mutex<(Option<Stamps>, Arc<Config>)>,
    cache: Mutex<Cache>,
    room: Semaphore,
    mark: Option<u32>,
}

/// Inode, seconds and nanoseconds of the last change, size: of both files.
type Stamps = [Option<(u64, i64, i64, u64)>; 2];

impl Resolver {
    /// As `/etc/resolv.conf` and `/etc/hosts` say, whenever they change. `mark`: `SO_MARK` of the sockets. The error is
    /// that of reading a file that is there; one that is missing says nothing.
    pub fn system(mark: Option<u32>) -> io::Result<Resolver> {
        let stamps = stamps();
        Ok(Resolver::with(read()?, Some(stamps), mark))
    }

    /// As `config` says.
    pub fn new(config: Config) -> Resolver {
        let mark = config.mark;
        Resolver::with(config, None, mark)
    }

    fn with(config: Config, stamps: Option<Stamps>, mark: Option<u32>) -> Resolver {
        Resolver(Arc::new(Shared {
            cache: Mutex::new(Cache::new(config.cache)),
            config: Mutex::new((stamps, Arc::new(config))),
            room: Semaphore::new(limits::LOOKUPS),
            mark,
        }))
    }

    fn config(&self) -> Arc<Config> {
        let mut held = locked(&self.0.config);
        if let Some(before) = held.0 {
            let now = stamps();
            if now != before {
                match read() {
                    Ok(config) => *held = (Some(now), Arc::new(config)),
                    Err(error) => {
                        tracing::warn!(%error, "the resolver's files cannot be read; the last ones hold")
                    }
                }
            }
        }
        held.1.clone()
    }

    async fn resolve(&self, name: &str, family: Family) -> Result<Answer, LookupError> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return forever(&[address], family);
        }
        let config = self.config();
        if let Some(known) = config.known(name) {
            return forever(&known, family);
        }
        let _room = self.0.room.try_acquire().map_err(|_| LookupError::Busy)?;
        let mut exists = false;
        for candidate in config.candidates(name) {
            match self.candidate(&config, &candidate, family).await {
                Err(LookupError::NoAddress) => exists = true,
                Err(LookupError::NoSuchName) => {}
                // A suffix that makes the name too long is not tried.
                Err(LookupError::BadName) if candidate.len() > name.len() => {}
                done => return done,
            }
        }
        Err(if exists { LookupError::NoAddress } else { LookupError::NoSuchName })
    }

    /// One whole name, in the families that may be wanted.
    async fn candidate(&self, config: &Config, name: &str, family: Family) -> Result<Answer, LookupError> {
        let ask = |kind| self.known_or_asked(config, name, kind);
        match family {
            Family::V4Only => answer(ask(Kind::V4).await?),
            Family::V6Only => answer(ask(Kind::V6).await?),
            Family::Auto => first(ask(Kind::V6).await?, ask(Kind::V4)).await,
            Family::V4Preferred => first(ask(Kind::V4).await?, ask(Kind::V6)).await,
            Family::All => {
                let (v6, v4) = tokio::join!(ask(Kind::V6), ask(Kind::V4));
                both(v6?, v4?)
            }
        }
    }

    async fn known_or_asked(&self, config: &Config, name: &str, kind: Kind) -> Result<Said, LookupError> {
        if let Some(said) = locked(&self.0.cache).get(name, kind, Instant::now()) {
            return Ok(said);
        }
        let said = self.ask(config, name, kind).await?;
        locked(&self.0.cache).put(name, kind, &said, Instant::now());
        Ok(said)
    }

    /// Asks one server after the other, and all of them again.
    async fn ask(&self, config: &Config, name: &str, kind: Kind) -> Result<Said, LookupError> {
        let mut last = "no server is configured".to_owned();
        for _ in 0..config.attempts {
            for server in &config.servers {
                // A question of its own for each, so that an id that one server saw is worth nothing to another.
                let question = Question::new(name, kind).ok_or(LookupError::BadName)?;
                let asked = exchange::ask(*server, &question, self.0.mark);
                last = match timeout(config.timeout, asked).await {
                    Ok(Ok(Said::Failed(why))) => format!("{server}: {why}"),
                    Ok(Ok(said)) => return Ok(said),
                    Ok(Err(error)) => format!("{server}: {error}"),
                    Err(_) => format!("{server}: silent for {:?}", config.timeout),
                };
            }
        }
        Err(LookupError::Unanswered(last))
    }
}

impl Resolve for Resolver {
    fn lookup<'a>(&'a self, name: &'a str, family: Family) -> Lookup<'a> {
        Box::pin(self.resolve(name, family))
    }
}

/// What was said of one family.
fn answer(said: Said) -> Result<Answer, LookupError> {
    match said {
        Said::Addresses(addresses, ttl) => Ok(Answer { addresses: addresses.into(), ttl }),
        Said::NoSuchName(_) => Err(LookupError::NoSuchName),
        Said::NoAddress(_) => Err(LookupError::NoAddress),
        Said::Truncated | Said::Failed(_) => Err(LookupError::Unanswered("no whole answer".to_owned())),
    }
}

/// The first family, or the other if the name has none of the first.
async fn first(
    said: Said,
    other: impl Future<Output = Result<Said, LookupError>>,
) -> Result<Answer, LookupError> {
    match said {
        Said::NoAddress(_) => answer(other.await?),
        said => answer(said),
    }
}

/// Both families together, for as long as both hold.
fn both(v6: Said, v4: Said) -> Result<Answer, LookupError> {
    match (answer(v6), answer(v4)) {
        (Ok(v6), Ok(v4)) => Ok(Answer {
            addresses: v6.addresses.iter().chain(v4.addresses.iter()).copied().collect(),
            ttl: v6.ttl.min(v4.ttl),
        }),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(LookupError::NoAddress), Err(_)) => Err(LookupError::NoAddress),
        (Err(_), Err(error)) => Err(error),
    }
}

fn forever(addresses: &[IpAddr], family: Family) -> Result<Answer, LookupError> {
    let addresses = select(addresses, family);
    if addresses.is_empty() {
        return Err(LookupError::NoAddress);
    }
    Ok(Answer { addresses: addresses.into(), ttl: limits::TTL_MAX })
}

fn read() -> io::Result<Config> {
    Ok(Config::from_files(&read_file(RESOLV_CONF)?, &read_file(HOSTS)?))
}

fn read_file(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(limits::FILE_BYTES).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn stamps() -> Stamps {
    [RESOLV_CONF, HOSTS].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind the locks is replaced whole: a panic elsewhere leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn both_families_together() {
        let found = |text: &str, ttl| Said::Addresses(vec![text.parse().unwrap()], Duration::from_secs(ttl));
        let none = || Said::NoAddress(Duration::from_secs(1));
        let whole = both(found("::1", 9), found("10.0.0.1", 5)).unwrap();
        assert_eq!((whole.addresses.len(), whole.ttl), (2, Duration::from_secs(5)));
        assert_eq!(both(none(), found("10.0.0.1", 5)).unwrap().addresses.len(), 1);
        assert_eq!(both(none(), none()), Err(LookupError::NoAddress));
        let missing = || Said::NoSuchName(Duration::from_secs(1));
        assert_eq!(both(missing(), missing()), Err(LookupError::NoSuchName));
    }
}
