//! Silero's speech detector (v5 and v6, ONNX): the deciding opinion on whether someone speaks.
//!
//! The file is no part of this program: `omnivox models pull silero-vad` fetches it. One [`SileroModel`] is shared; each
//! line has its own [`SileroVad`], which carries 64 samples and the net's memory from one window to the next.

use std::path::Path;
use std::sync::Arc;

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

use super::EarError;

/// Samples at 16 kHz that are judged at once: 32 ms.
pub const WINDOW: usize = 512;

const CONTEXT: usize = 64;
const MEMORY: [usize; 3] = [2, 1, 128];
const RATE: i32 = 16_000;

/// The net, loaded once.
pub struct SileroModel {
    model: Model,
    threads: Arc<ThreadPool>,
    input: NodeId,
    state: NodeId,
    rate: NodeId,
    output: NodeId,
    state_out: NodeId,
}

impl SileroModel {
    /// Loads the file and judges one window of silence, so that a file of another kind is found out here.
    ///
    /// # Errors
    /// [`EarError::ModelMissing`], [`EarError::ModelBad`].
    pub fn load(path: &Path) -> Result<Arc<Self>, EarError> {
        let shown = path.display().to_string();
        if !path.is_file() {
            return Err(EarError::ModelMissing {
                what: "Silero's speech detector".into(),
                path: shown,
                mend: "omnivox models pull silero-vad".into(),
            });
        }
        let bad = |reason: String| EarError::ModelBad { path: shown.clone(), reason };
        let model = ModelOptions::with_all_ops().load_file(path).map_err(|error| bad(error.to_string()))?;
        let node = |name: &str| model.find_node(name).ok_or_else(|| bad(format!("it has no `{name}`")));
        let (input, state, rate) = (node("input")?, node("state")?, node("sr")?);
        let (output, state_out) = (node("output")?, node("stateN")?);
        // One thread: a window is too small to be worth sharing out.
        let threads = Arc::new(ThreadPool::with_num_threads(1));
        let loaded = Arc::new(Self { model, threads, input, state, rate, output, state_out });
        SileroVad::new(Arc::clone(&loaded)).judge(&[0.0; WINDOW]).map_err(bad)?;
        Ok(loaded)
    }
}

/// One line's detector. About 0.15 ms of one core for each window.
pub struct SileroVad {
    model: Arc<SileroModel>,
    pending: Vec<f32>,
    context: [f32; CONTEXT],
    memory: NdTensor<f32, 3>,
}

impl SileroVad {
    /// A detector that has heard nothing.
    pub fn new(model: Arc<SileroModel>) -> Self {
        Self {
            model,
            pending: Vec::with_capacity(2 * WINDOW),
            context: [0.0; CONTEXT],
            memory: NdTensor::zeros(MEMORY),
        }
    }

    /// Forgets what it heard.
    pub fn reset(&mut self) {
        self.pending.clear();
        self.context = [0.0; CONTEXT];
        self.memory = NdTensor::zeros(MEMORY);
    }

    /// Takes audio at 16 kHz; the probability of speech (0 to 1) in the newest window, where one was completed.
    ///
    /// # Errors
    /// [`EarError::Engine`] where the net fails; the window is then lost.
    pub fn push(&mut self, pcm: &[i16]) -> Result<Option<f32>, EarError> {
        self.pending.extend(pcm.iter().map(|sample| f32::from(*sample) / 32_768.0));
        let mut probability = None;
        while self.pending.len() >= WINDOW {
            let window: Vec<f32> = self.pending.drain(..WINDOW).collect();
            let judged = self.judge(&window);
            probability = Some(judged.map_err(|reason| EarError::Engine { provider: "silero", reason })?);
        }
        Ok(probability)
    }

    fn judge(&mut self, window: &[f32]) -> Result<f32, String> {
        let heard: Vec<f32> = self.context.iter().chain(window).copied().collect();
        let model = Arc::clone(&self.model);
        let input = NdTensor::from_data([1, heard.len()], heard);
        let rate = NdTensor::from_data([], vec![RATE]);
        let inputs = vec![
            (model.input, input.view().into()),
            (model.state, self.memory.view().into()),
            (model.rate, rate.view().into()),
        ];
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&model.threads)));
        let outputs = model.model.run(inputs, &[model.output, model.state_out], Some(options));
        let outputs: [rten::Value; 2] = outputs
            .map_err(|error| error.to_string())?
            .try_into()
            .map_err(|_| "it gives other outputs than were asked for".to_owned())?;
        let [probability, memory] = outputs;
        let probability: NdTensor<f32, 2> = probability.try_into().map_err(|_| "its output has another shape")?;
        self.memory = memory.try_into().map_err(|_| "its state has another shape")?;
        if self.memory.shape() != MEMORY {
            return Err("its state has another shape".into());
        }
        let tail = window.get(window.len().saturating_sub(CONTEXT)..).unwrap_or_default();
        self.context.iter_mut().zip(tail).for_each(|(kept, sample)| *kept = *sample);
        probability.iter().next().copied().ok_or_else(|| "it gave no probability".to_owned())
    }
}
