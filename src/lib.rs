//! swinseek reads images (photographs, radiographs, DICOM) and writes text: a draft report, an answer, a caption.
//!
//! The rooms, from the bottom: [`swinseek_kernels`] (operations), [`swinseek_vision`] (bytes to features),
//! [`swinseek_language`] (ids to logits), [`swinseek_fusion`] (the joined model), [`swinseek_evals`] (scores),
//! [`swinseek_phantom`] (synthetic radiographs). This crate is the product around them:
//!
//! - [`cli`]: one file a command;
//! - [`train`]: the trainer;
//! - [`eval`]: a model or a server over a data set;
//! - [`suite`]: the table of scores that belongs to a model.

pub mod cli;
pub mod eval;
pub mod suite;
pub mod train;
