//! Floor 4: a whole mesh on one machine. Pods are network namespaces.
//!
//! [`up`] follows files as the control plane does, and for every replica of a workload they define makes a
//! pod: a network namespace with an address, capture rules, the workload's program, and a proxy. The
//! pods and endpoints it makes are written as files, which the control plane, a process of its own, follows
//! like any other configuration. [`demo`] walks through what a mesh is for, on such a mesh, with numbers.
//!
//! What this deliberately is not: a container runtime (an image's name only chooses a program on this
//! machine, see [`images`]), or a Kubernetes (no scheduler, no API server).
//!
//! The parts, pure ones first:
//! * [`images`]: which program stands in for an image;
//! * [`plan`]: the pods that a set of objects asks for;
//! * [`services`]: addresses and endpoints of services, given the pods; [`dns`]: names, and who answers for them;
//! * [`sandbox`]: what keeps a whole mesh from needing root and from outliving its user;
//! * [`place`], [`link`], [`rules`]: namespaces, their interfaces, their capture rules; [`vips`]: addresses of services;
//!   [`egress`]: the way out; [`identity`]: who runs as whom;
//! * [`pod`]: what is in a pod; [`life`]: in which order it lives, [`container`] and [`probe`]: how each of its
//!   containers does, [`jobs`]: which are due; [`env`]: what they are started with,
//!   [`volumes`] and [`token`]: the files they find;
//! * [`programs`], [`looks`], [`logs`]: processes, probes made, what is written;
//! * [`control`]: the control plane process; [`expose`]: the way in from the host;
//! * [`cluster`]: the files that tell the control plane about pods;
//! * [`runner`]: the loop that holds all this together;
//! * [`meshes`], [`api`]: where a mesh of some name is, and how a running one is asked and told.
//!
//! Invariants:
//! * The host's own interfaces, routes and rules are never touched: everything is made inside namespaces of
//!   the mesh's own, which the kernel removes with the last process in them.
//! * Every process is started by a thread that lives as long as its pod, and is killed by the kernel should
//!   that thread end: nothing outlives the runner, not even one that was killed.

pub mod api;
mod captured;
pub mod cluster;
mod container;
mod control;
pub mod demo;
pub mod dns;
pub mod doctor;
mod egress;
mod env;
mod expose;
mod furnish;
mod identity;
pub mod images;
mod ingress;
mod jobs;
mod life;
pub mod link;
pub mod logs;
mod looks;
pub mod meshes;
mod node;
pub mod place;
pub mod plan;
mod pod;
mod probe;
mod programs;
mod rules;
mod runner;
pub mod sandbox;
pub mod select;
pub mod services;
pub mod status;
pub mod token;
pub mod tools;
pub mod up;
pub mod view;
mod vips;
mod volumes;
pub mod wishes;
