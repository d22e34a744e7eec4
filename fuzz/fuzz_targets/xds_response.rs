//! Whatever comes as responses, one after the other, in either dialect: taken or refused by name, and what is in force is
//! exactly what the records say.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use libfuzzer_sys::fuzz_target;
use ostro_xds_client::delivery::Delivery;
use ostro_xds_client::{Accepted, Consumer, Kind, Moment, Need, Offered, Origin, Phase, Source, Store, Wildcard};
use prost::Message;

const KINDS: [Kind; 4] = [Kind::CLUSTER, Kind::ENDPOINT, Kind::LISTENER, Kind::ROUTE];

#[derive(Default)]
struct InForce(BTreeMap<(Kind, Arc<str>), Bytes>);

impl Consumer for InForce {
    type Compiled = Bytes;

    fn compile(&mut self, offered: &Offered<'_>) -> Result<Accepted<Bytes>, String> {
        if offered.bytes.len() % 7 == 3 {
            return Err("is of that length".into());
        }
        let kind = match offered.kind {
            Kind::CLUSTER => Some(Kind::ENDPOINT),
            Kind::LISTENER => Some(Kind::ROUTE),
            _ => None,
        };
        let name: Arc<str> = offered.name.chars().take(1).collect::<String>().into();
        let need = |kind| Need { kind, name: name.clone(), source: Source::Ads, fetch_timeout: None };
        Ok(Accepted { compiled: offered.bytes.clone(), needs: kind.map(need).into_iter().collect() })
    }

    fn set(&mut self, kind: Kind, name: &Arc<str>, compiled: Bytes) {
        self.0.insert((kind, name.clone()), compiled);
    }

    fn remove(&mut self, kind: Kind, name: &Arc<str>) {
        assert!(self.0.remove(&(kind, name.clone())).is_some());
    }

    fn commit(&mut self) {}

    fn phase(&mut self, _: Phase) {}
}

fuzz_target!(|responses: Vec<(u8, Vec<u8>)>| {
    let now = Moment::now();
    let all = |kind| Wildcard { kind, source: Source::Ads, fetch_timeout: None };
    let mut store = Store::new(InForce::default(), vec![all(Kind::CLUSTER), all(Kind::LISTENER)]);
    store.begin(now);
    for (how, bytes) in responses {
        let kind = KINDS[usize::from(how & 3)];
        let delivery = if how & 4 == 0 {
            DiscoveryResponse::decode(bytes.as_slice()).map(|response| Delivery::of_world(kind, response))
        } else {
            DeltaDiscoveryResponse::decode(bytes.as_slice()).map(|response| Delivery::of_delta(kind, response))
        };
        let Ok(delivery) = delivery else { continue };
        let outcome = store.deliver(kind, Origin::Ads, delivery, None, now);
        assert_eq!(outcome.reason(kind).is_some(), !outcome.refused.is_empty());
        let mut recorded = BTreeMap::new();
        for kind in KINDS {
            store.records().each(kind, &mut |record| {
                if let Some(held) = &record.active {
                    recorded.insert((kind, record.name.clone()), held.bytes.clone());
                }
            });
        }
        assert_eq!(recorded, store.consumer().0);
    }
});
