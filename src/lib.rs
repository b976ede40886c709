//! swinseek reads images (photographs, radiographs, DICOM) and writes text: a draft report, an answer, a caption.
//!
//! The rooms, from the bottom: [`swinseek_kernels`] (operations), [`swinseek_vision`] (bytes to features),
//! [`swinseek_language`] (ids to logits), [`swinseek_fusion`] (the joined model), [`swinseek_evals`] (scores),
//! [`swinseek_phantom`] (synthetic radiographs). This crate is the product around them:
//!
//! - [`cli`]: one file a command;
//! - [`formats`]: a report as JSON, text, FHIR, DICOM and picture;
//! - [`train`]: the trainer;
//! - [`engine`]: many requests at once on one model;
//! - [`server`]: the HTTP service;
//! - [`eval`]: a model or a server over a data set;
//! - [`suite`]: the table of scores that belongs to a model.

pub mod cli;
pub mod engine;
pub mod eval;
pub mod formats;
pub mod server;
pub mod suite;
mod toml_file;
pub mod train;
