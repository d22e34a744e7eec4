//! Envoy's response flags: whose fault it was, in two letters that people's dashboards know.

/// What happened to a stream or connection besides its status; several may hold.
///
/// They are told in the order in which they were set, as by Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags {
    bits: u32,
    /// Numbers of flags from 1, six bits each, the first one lowest. What finds no room is told last.
    order: u64,
}

/// Flags whose order is remembered.
const ORDERED_MAX: u32 = 10;
const NUMBER_BITS: u32 = 6;

/// Declares every flag once: constant, short name, long name, meaning.
macro_rules! flags {
    ($($name:ident = $bit:literal, $short:literal, $long:literal, $doc:literal;)*) => {
        impl ResponseFlags {
            $(#[doc = $doc] pub const $name: ResponseFlags = ResponseFlags { bits: 1 << $bit, order: $bit + 1 };)*
        }

        /// By number.
        const NAMES: &[(ResponseFlags, &str, &str)] = &[$((ResponseFlags::$name, $short, $long),)*];
    };
}

flags! {
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH", "FailedLocalHealthCheck", "The proxy's own health check filter failed.";
    NO_HEALTHY_UPSTREAM = 1, "UH", "NoHealthyUpstream", "The cluster has no host to choose.";
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT", "UpstreamRequestTimeout", "The route's or a try's timeout passed.";
    LOCAL_RESET = 3, "LR", "LocalReset", "The proxy reset the upstream stream.";
    UPSTREAM_REMOTE_RESET = 4, "UR", "UpstreamRemoteReset", "The upstream reset the stream.";
    UPSTREAM_CONNECTION_FAILURE = 5, "UF", "UpstreamConnectionFailure", "No connection to the upstream came about.";
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC", "UpstreamConnectionTermination", "The upstream closed the connection.";
    UPSTREAM_OVERFLOW = 7, "UO", "UpstreamOverflow", "A circuit breaker was open.";
    NO_ROUTE_FOUND = 8, "NR", "NoRouteFound", "There is no route, or no filter chain, for it.";
    DELAY_INJECTED = 9, "DI", "DelayInjected", "A fault delayed it.";
    FAULT_INJECTED = 10, "FI", "FaultInjected", "A fault answered it.";
    RATE_LIMITED = 11, "RL", "RateLimited", "A rate limit refused it.";
    UNAUTHORIZED_EXTERNAL_SERVICE = 12, "UAEX", "UnauthorizedExternalService", "An external authorizer refused it.";
    RATE_LIMIT_SERVICE_ERROR = 13, "RLSE", "RateLimitServiceError", "The rate limit service failed.";
    DOWNSTREAM_CONNECTION_TERMINATION = 14, "DC", "DownstreamConnectionTermination", "The client went away.";
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 15, "URX", "UpstreamRetryLimitExceeded", "All retries, or connection attempts, failed.";
    STREAM_IDLE_TIMEOUT = 16, "SI", "StreamIdleTimeout", "Nothing moved on the stream for too long.";
    INVALID_ENVOY_REQUEST_HEADERS = 17, "IH", "InvalidEnvoyRequestHeaders", "A header for the proxy had a wrong value.";
    DOWNSTREAM_PROTOCOL_ERROR = 18, "DPE", "DownstreamProtocolError", "The client broke its protocol.";
    UPSTREAM_MAX_STREAM_DURATION_REACHED = 19, "UMSDR", "UpstreamMaxStreamDurationReached", "The stream was as long as it may be.";
    RESPONSE_FROM_CACHE_FILTER = 20, "RFCF", "ResponseFromCacheFilter", "A cache answered.";
    NO_FILTER_CONFIG_FOUND = 21, "NFCF", "NoFilterConfigFound", "A filter's configuration has not come.";
    DURATION_TIMEOUT = 22, "DT", "DurationTimeout", "The connection, or the request, was as long as it may be.";
    UPSTREAM_PROTOCOL_ERROR = 23, "UPE", "UpstreamProtocolError", "The upstream broke its protocol.";
    NO_CLUSTER_FOUND = 24, "NC", "NoClusterFound", "The cluster of the route does not exist.";
    OVERLOAD_MANAGER = 25, "OM", "OverloadManagerTerminated", "Shed to protect the proxy.";
    DNS_RESOLUTION_FAILED = 26, "DF", "DnsResolutionFailed", "A name could not be resolved.";
    DROP_OVERLOAD = 27, "DO", "DropOverLoad", "Dropped by the cluster's drop_overload.";
    DOWNSTREAM_REMOTE_RESET = 28, "DR", "DownstreamRemoteReset", "The client reset the stream.";
}

impl ResponseFlags {
    /// Adds flags.
    pub fn set(&mut self, flags: ResponseFlags) {
        if flags.is_empty() {
            return;
        }
        for number in flags.numbers() {
            let bit = 1 << (number - 1);
            if self.bits & bit == 0 {
                let place = self.bits.count_ones();
                self.bits |= bit;
                if place < ORDERED_MAX {
                    self.order |= u64::from(number) << (place * NUMBER_BITS);
                }
            }
        }
    }

    /// Whether all of these flags are set.
    pub fn has(self, flags: ResponseFlags) -> bool {
        self.bits & flags.bits == flags.bits
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// One bit for each, by Envoy's numbers.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Numbers of the flags, in order.
    fn numbers(self) -> impl Iterator<Item = u32> {
        let ordered = (0..ORDERED_MAX)
            .map(move |place| (self.order >> (place * NUMBER_BITS)) & ((1 << NUMBER_BITS) - 1));
        let ordered =
            ordered.take_while(|number| *number != 0).filter_map(|number| u32::try_from(number).ok());
        let rest = (1..=u32::BITS).filter(move |number| {
            let is_ordered = (0..ORDERED_MAX).any(|place| {
                (self.order >> (place * NUMBER_BITS)) & ((1 << NUMBER_BITS) - 1) == u64::from(*number)
            });
            self.bits & (1 << (number - 1)) != 0 && !is_ordered
        });
        ordered.chain(rest)
    }

    /// The flag of this short name (`UF`).
    pub fn parse(short: &str) -> Option<ResponseFlags> {
        NAMES.iter().find(|(_, name, _)| *name == short).map(|(flag, ..)| *flag)
    }

    /// Short names, `,` between them; `-` for none.
    pub fn short(self) -> impl std::fmt::Display {
        Names { flags: self, long: false }
    }

    /// Long names, `,` between them; `-` for none.
    pub fn long(self) -> impl std::fmt::Display {
        Names { flags: self, long: true }
    }
}

struct Names {
    flags: ResponseFlags,
    long: bool,
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.flags.is_empty() {
            return f.write_str("-");
        }
        let set = self.flags.numbers().filter_map(|number| NAMES.get(number as usize - 1));
        for (place, (_, short, long)) in set.enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(if self.long { long } else { short })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_envoy_writes_them() {
        let mut flags = ResponseFlags::default();
        assert_eq!(flags.short().to_string(), "-");
        flags.set(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        flags.set(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        assert_eq!(flags.short().to_string(), "URX,UF");
        assert_eq!(flags.long().to_string(), "UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
        flags.set(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        assert_eq!(flags.short().to_string(), "URX,UF");
        assert!(flags.has(ResponseFlags::UPSTREAM_CONNECTION_FAILURE));
    }

    #[test]
    fn every_flag_has_a_bit_and_names_of_its_own() {
        for (place, (flag, short, _)) in NAMES.iter().enumerate() {
            assert_eq!(ResponseFlags::parse(short), Some(*flag));
            assert!(NAMES.iter().skip(place + 1).all(|(other, ..)| !other.has(*flag)), "{short}");
        }
    }
}
