//! Named limits that more than one crate keeps. A limit that only one crate knows lives there.

/// Strings from outside that the intern table takes; past it `try_new` refuses. About 1.5 GiB of
/// typical names: a mesh of 200,000 services interns some 5 million.
pub const NAMES: u32 = 16 << 20;

/// Bytes of one name from outside. DNS names end at 255, Envoy cluster names of Istio's form at
/// about 600.
pub const NAME_BYTES: usize = 4 << 10;

/// Bytes of one configuration file. A whole cluster's export in one file is some 100 KiB per 100
/// objects; a file larger than this is split by its owner.
pub const FILE_BYTES: usize = 10 << 20;

/// Documents of one configuration file, the items of a `kind: List` counted one by one.
pub const FILE_DOCUMENTS: usize = 20_000;

/// Levels of nesting inside one document. Kubernetes' own schemas stay under 30.
pub const DOCUMENT_DEPTH: usize = 64;

/// Nodes (scalars, mappings, sequences) of one document, aliases expanded. Bounds alias bombs.
pub const DOCUMENT_NODES: usize = 1_000_000;

/// Nodes of one file, over all its documents and with aliases expanded.
pub const FILE_NODES: usize = 4_000_000;

/// Commas of one YAML document (JSON has no such limit): a scanner of YAML keeps the tokens between
/// them, some 200 bytes each, until a flow collection ends.
pub const DOCUMENT_COMMAS: usize = 400_000;

/// Aliases of one document; more than this is an attack or a mistake.
pub const DOCUMENT_ALIASES: usize = 1_000;

/// Complaints kept of one file; the rest is counted.
pub const FILE_COMPLAINTS: usize = 1_000;

/// Bytes of a regular expression's text. Istio refuses longer ones too.
pub const REGEX_BYTES: usize = 1_024;

const _: () = assert!(FILE_NODES >= DOCUMENT_NODES);
