//! The thread that owns the model.

use super::queue::{Phase, Shared};
use super::{EngineConfig, EngineModel};

/// Works until the engine is shut down.
pub(super) fn run<M: EngineModel>(_model: M, _config: &EngineConfig, shared: &Shared) {
    loop {
        shared.wait_for_work();
        let mut state = shared.lock();
        state.clear();
        if state.phase != Phase::Open {
            break;
        }
    }
    shared.enter(Phase::Stopped);
}
