//! `envoy.filters.http.header_mutation`: headers changed, one change after the other.

use envoy_types::pb::envoy::config::common::mutation_rules::v3::HeaderMutation as MutationProto;
use envoy_types::pb::envoy::config::common::mutation_rules::v3::header_mutation::Action;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as Proto, HeaderMutationPerRoute, Mutations,
};

use crate::header_ops::{HeaderOps, modifiable};
use crate::refusal::Within;
use crate::{Headers, Refusal, Request, StreamInfo};

/// Changes of headers.
#[derive(Clone, Debug, Default)]
pub struct HeaderMutation {
    request: Vec<HeaderOps>,
    response: Vec<HeaderOps>,
    /// Of the changes of routes those of the most specific come last, and so win.
    pub most_specific_wins: bool,
}

impl HeaderMutation {
    pub(super) fn compile(proto: &Proto) -> Result<HeaderMutation, Refusal> {
        let Proto { mutations, most_specific_header_mutations_wins } = proto;
        HeaderMutation::of(mutations.as_ref(), *most_specific_header_mutations_wins)
    }

    pub(super) fn of_route(proto: &HeaderMutationPerRoute) -> Result<HeaderMutation, Refusal> {
        let HeaderMutationPerRoute { mutations } = proto;
        HeaderMutation::of(mutations.as_ref(), false)
    }

    fn of(mutations: Option<&Mutations>, most_specific_wins: bool) -> Result<HeaderMutation, Refusal> {
        let Some(mutations) = mutations else {
            return Ok(HeaderMutation { most_specific_wins, ..Default::default() });
        };
        let Mutations {
            request_mutations,
            query_parameter_mutations,
            response_mutations,
            response_trailers_mutations,
            request_trailers_mutations,
        } = mutations;
        refuse_if_set!(query_parameter_mutations, response_trailers_mutations, request_trailers_mutations);
        Ok(HeaderMutation {
            request: changes(request_mutations).within(|| "request_mutations".to_owned())?,
            response: changes(response_mutations).within(|| "response_mutations".to_owned())?,
            most_specific_wins,
        })
    }

    /// Changes the headers of a request.
    pub fn apply_to_request(&self, request: &mut Request, info: &StreamInfo) {
        self.request.iter().for_each(|ops| ops.apply_to_request(request, info));
    }

    /// Changes the headers of a response.
    pub fn apply_to_response(&self, response: &mut Headers, info: &StreamInfo, request: Option<&Request>) {
        self.response.iter().for_each(|ops| ops.apply_to_response(response, info, request));
    }
}

/// Each change is made on its own, so that a later one sees what an earlier one did.
pub(crate) fn changes(protos: &[MutationProto]) -> Result<Vec<HeaderOps>, Refusal> {
    let one = |(place, MutationProto { action }): (usize, &MutationProto)| {
        let ops = match action {
            Some(Action::Remove(name)) => {
                modifiable(name).and_then(|name| HeaderOps::of_parts(vec![name], &[]))
            }
            Some(Action::Append(option)) => HeaderOps::of_parts(Vec::new(), std::slice::from_ref(option)),
            Some(Action::RemoveOnMatch(_)) => Err(Refusal::unsupported("remove_on_match")),
            None => Err(Refusal::invalid("no action")),
        };
        ops.within(|| format!("[{place}]"))
    };
    protos.iter().enumerate().map(one).collect()
}
