//! The decoder against the reference implementations, its cache, its gradients and its configuration.

#![allow(unreachable_pub)]

mod cache;
mod config;
mod goldens;
mod support;
mod training;
