//! A microphone and a loudspeaker as a line of the agent, at 16 kHz.
//!
//! The device's own threads call back with their buffers: what is heard goes into frames of 20 ms with the speech
//! gate's judgement, what is said comes out of a [`Playback`]. Nothing is allocated there but the frames.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::line::{FRAME_MS, HeardFrame, Line, LineEvent};
use anyhow::{Context, bail};
use codecs::pcm::SampleRate;
use codecs::resample::Resampler;
use codecs::speech::SpeechGate;
use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{FromSample, SampleFormat, SizedSample, Stream};
use tokio::sync::mpsc;

use super::devices::Chosen;
use super::playback::Playback;

/// The rate that the agent hears and speaks at.
const RATE: SampleRate = SampleRate::HZ_16000;

/// Frames that may wait for the conversation: a second. More are dropped and counted.
const MAX_WAITING_FRAMES: usize = 50;

/// After the agent's last sound the room echoes for so long (`--loudspeaker`), in samples.
const ECHO_SAMPLES: u64 = 16_000 / 5;

/// The line of a conversation at this machine.
pub struct Microphone {
    frames: mpsc::Receiver<HeardFrame>,
    shared: Arc<Shared>,
    names: (String, String),
    /// Held, so that they run.
    _streams: (Stream, Stream),
}

#[derive(Debug, Default)]
struct Shared {
    playback: Mutex<Playback>,
    dropped_frames: AtomicU64,
    /// The device said that it cannot go on.
    broken: AtomicBool,
    /// Samples since the agent's last sound.
    silent_samples: AtomicU64,
}

impl Shared {
    fn playback(&self) -> MutexGuard<'_, Playback> {
        self.playback.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Microphone {
    /// Opens both devices. `deaf` mutes the microphone while the agent speaks.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn open((input, output): (Chosen, Chosen), deaf: bool) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (send, frames) = mpsc::channel(MAX_WAITING_FRAMES);
        let rate = SampleRate(input.config.sample_rate);
        let ear = Ear::new(rate, send, Arc::clone(&shared), deaf)?;
        let heard =
            open_input(&input, ear, &shared).with_context(|| format!("cannot open the microphone {:?}", input.name))?;
        let mouth = Mouth::new(SampleRate(output.config.sample_rate), Arc::clone(&shared))?;
        let said = open_output(&output, mouth, &shared)
            .with_context(|| format!("cannot open the loudspeaker {:?}", output.name))?;
        heard.play()?;
        said.play()?;
        Ok(Self { frames, shared, names: (input.name, output.name), _streams: (heard, said) })
    }

    /// Which devices these are.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("listening on {:?}, speaking on {:?}", self.names.0, self.names.1)
    }

    /// Frames that the conversation was too slow to take.
    #[must_use]
    pub fn dropped_frames(&self) -> u64 {
        self.shared.dropped_frames.load(Ordering::Relaxed)
    }
}

impl Line for Microphone {
    fn rate(&self) -> SampleRate {
        RATE
    }

    async fn next(&mut self) -> LineEvent {
        match self.frames.recv().await {
            Some(_) if self.shared.broken.load(Ordering::Relaxed) => LineEvent::Closed,
            Some(frame) => LineEvent::Audio(frame),
            None => LineEvent::Closed,
        }
    }

    fn say(&mut self, pcm: &[i16]) -> usize {
        self.shared.playback().say(pcm)
    }

    fn queued_samples(&self) -> usize {
        self.shared.playback().queued()
    }

    fn played_samples(&self) -> u64 {
        self.shared.playback().played()
    }

    fn interrupt(&mut self) {
        self.shared.playback().interrupt();
    }

    fn duck(&mut self, gain: f32) {
        self.shared.playback().duck(gain);
    }
}

/// The device's buffers to frames.
struct Ear {
    resampler: Resampler,
    resampled: Vec<i16>,
    frame: Vec<i16>,
    gate: SpeechGate,
    speech: f32,
    heard_samples: u64,
    frames: Option<mpsc::Sender<HeardFrame>>,
    shared: Arc<Shared>,
    deaf: bool,
}

/// Samples that go through the resamplers at once.
const BLOCK: usize = 160;

impl Ear {
    fn new(
        from: SampleRate,
        frames: mpsc::Sender<HeardFrame>,
        shared: Arc<Shared>,
        deaf: bool,
    ) -> anyhow::Result<Self> {
        let resampler = Resampler::new(from, RATE)?;
        let resampled = vec![0; resampler.max_output(BLOCK)];
        let frame = Vec::with_capacity(RATE.samples_in_ms(FRAME_MS));
        let gate = SpeechGate::new(RATE);
        Ok(Self {
            resampler,
            resampled,
            frame,
            gate,
            speech: 0.0,
            heard_samples: 0,
            frames: Some(frames),
            shared,
            deaf,
        })
    }

    /// Takes mono samples at the device's rate.
    fn push(&mut self, pcm: &[i16]) {
        for block in pcm.chunks(BLOCK) {
            let count = self.resampler.process(block, &mut self.resampled);
            for index in 0..count {
                self.frame.push(self.resampled.get(index).copied().unwrap_or(0));
                if self.frame.len() == RATE.samples_in_ms(FRAME_MS) {
                    self.send();
                }
            }
        }
    }

    fn send(&mut self) {
        let mut pcm = std::mem::replace(&mut self.frame, Vec::with_capacity(RATE.samples_in_ms(FRAME_MS)));
        if self.deaf && self.shared.silent_samples.load(Ordering::Relaxed) < ECHO_SAMPLES {
            pcm.fill(0);
        }
        self.speech = self.gate.push(&pcm).unwrap_or(self.speech);
        let at_ms = self.heard_samples as f64 * 1_000.0 / f64::from(RATE.hz());
        self.heard_samples += pcm.len() as u64;
        let frame = HeardFrame { pcm, sent: Vec::new(), rate: RATE, speech: self.speech, concealed: false, at_ms };
        let Some(frames) = &self.frames else { return };
        if frames.try_send(frame).is_err() {
            self.shared.dropped_frames.fetch_add(1, Ordering::Relaxed);
        }
        if self.shared.broken.load(Ordering::Relaxed) {
            self.frames = None;
        }
    }
}

/// What is said to the device's buffers.
struct Mouth {
    resampler: Resampler,
    block: [i16; BLOCK],
    resampled: Vec<i16>,
    /// Of `resampled`: what is filled, and what of it went out.
    ready: std::ops::Range<usize>,
    shared: Arc<Shared>,
}

impl Mouth {
    fn new(to: SampleRate, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let resampler = Resampler::new(RATE, to)?;
        let resampled = vec![0; resampler.max_output(BLOCK)];
        Ok(Self { resampler, block: [0; BLOCK], resampled, ready: 0..0, shared })
    }

    /// The next sample at the device's rate.
    fn next(&mut self) -> i16 {
        while self.ready.is_empty() {
            let sounded = self.shared.playback().fill(&mut self.block);
            if sounded {
                self.shared.silent_samples.store(0, Ordering::Relaxed);
            } else {
                self.shared.silent_samples.fetch_add(BLOCK as u64, Ordering::Relaxed);
            }
            self.ready = 0..self.resampler.process(&self.block, &mut self.resampled);
        }
        let sample = self.resampled.get(self.ready.start).copied().unwrap_or(0);
        self.ready.start += 1;
        sample
    }
}

fn open_input(chosen: &Chosen, ear: Ear, shared: &Arc<Shared>) -> anyhow::Result<Stream> {
    match chosen.format {
        SampleFormat::I8 => input::<i8>(chosen, ear, shared),
        SampleFormat::I16 => input::<i16>(chosen, ear, shared),
        SampleFormat::I32 => input::<i32>(chosen, ear, shared),
        SampleFormat::U8 => input::<u8>(chosen, ear, shared),
        SampleFormat::U16 => input::<u16>(chosen, ear, shared),
        SampleFormat::F32 => input::<f32>(chosen, ear, shared),
        other => bail!("its samples are of the kind {other}, which is not read"),
    }
}

fn input<T>(chosen: &Chosen, mut ear: Ear, shared: &Arc<Shared>) -> anyhow::Result<Stream>
where
    T: SizedSample,
    i16: FromSample<T>,
{
    let channels = usize::from(chosen.config.channels.max(1));
    let mut mono = Vec::with_capacity(chosen.config.sample_rate as usize);
    let on_audio = move |data: &[T], _: &cpal::InputCallbackInfo| {
        mono.clear();
        // The first channel: a microphone is on all of them, or on this one.
        mono.extend(data.iter().step_by(channels).map(|sample| i16::from_sample_(*sample)));
        ear.push(&mono);
    };
    Ok(chosen.device.build_input_stream(chosen.config, on_audio, on_fault("microphone", shared), None)?)
}

fn open_output(chosen: &Chosen, mouth: Mouth, shared: &Arc<Shared>) -> anyhow::Result<Stream> {
    match chosen.format {
        SampleFormat::I8 => output::<i8>(chosen, mouth, shared),
        SampleFormat::I16 => output::<i16>(chosen, mouth, shared),
        SampleFormat::I32 => output::<i32>(chosen, mouth, shared),
        SampleFormat::U8 => output::<u8>(chosen, mouth, shared),
        SampleFormat::U16 => output::<u16>(chosen, mouth, shared),
        SampleFormat::F32 => output::<f32>(chosen, mouth, shared),
        other => bail!("its samples are of the kind {other}, which is not written"),
    }
}

fn output<T>(chosen: &Chosen, mut mouth: Mouth, shared: &Arc<Shared>) -> anyhow::Result<Stream>
where
    T: SizedSample + FromSample<i16>,
{
    let channels = usize::from(chosen.config.channels.max(1));
    let on_audio = move |data: &mut [T], _: &cpal::OutputCallbackInfo| {
        for frame in data.chunks_mut(channels) {
            frame.fill(T::from_sample_(mouth.next()));
        }
    };
    Ok(chosen.device.build_output_stream(chosen.config, on_audio, on_fault("loudspeaker", shared), None)?)
}

/// A glitch is logged, the end of the device ends the line.
fn on_fault(what: &'static str, shared: &Arc<Shared>) -> impl FnMut(cpal::Error) + Send + use<> {
    let shared = Arc::clone(shared);
    move |error| match error.kind() {
        cpal::ErrorKind::Xrun | cpal::ErrorKind::RealtimeDenied | cpal::ErrorKind::DeviceChanged => {
            tracing::debug!("the {what}: {error}");
        }
        _ => {
            tracing::error!("the {what} cannot go on: {error}");
            shared.broken.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ear(rate: SampleRate, deaf: bool) -> (Ear, mpsc::Receiver<HeardFrame>, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        let (send, frames) = mpsc::channel(MAX_WAITING_FRAMES);
        (Ear::new(rate, send, Arc::clone(&shared), deaf).unwrap(), frames, shared)
    }

    fn tone(rate: SampleRate, ms: u32) -> Vec<i16> {
        let step = 2.0 * std::f64::consts::PI * 440.0 / f64::from(rate.hz());
        (0..rate.samples_in_ms(ms)).map(|n| ((n as f64 * step).sin() * 8_000.0) as i16).collect()
    }

    #[test]
    fn buffers_of_any_rate_and_size_become_frames_of_20_ms_in_time() {
        for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000, SampleRate::HZ_44100, SampleRate::HZ_48000] {
            for size in [33, 441, 4_096] {
                let (mut ear, mut frames, _) = ear(rate, false);
                tone(rate, 410).chunks(size).for_each(|buffer| ear.push(buffer));
                for index in 0..20 {
                    let frame = frames.try_recv().unwrap();
                    assert_eq!((frame.pcm.len(), frame.at_ms), (320, f64::from(index) * 20.0), "{rate} {size}");
                    let loudest = frame.pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
                    assert!(index == 0 || (7_000..9_000).contains(&loudest), "{rate} {size}: {loudest}");
                }
                assert!(frames.try_recv().is_err());
            }
        }
    }

    #[test]
    fn frames_that_nobody_takes_are_dropped_and_counted() {
        let (mut ear, _frames, shared) = ear(RATE, false);
        ear.push(&tone(RATE, 20 * (MAX_WAITING_FRAMES as u32 + 3)));
        assert_eq!(shared.dropped_frames.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn with_a_loudspeaker_the_microphone_is_deaf_while_the_agent_speaks_and_the_room_echoes() {
        let (mut ear, mut frames, shared) = ear(RATE, true);
        let mut mouth = Mouth::new(SampleRate::HZ_48000, Arc::clone(&shared)).unwrap();
        let mut heard_while = |ms: u32, mouth: &mut Mouth| {
            (0..SampleRate::HZ_48000.samples_in_ms(ms)).for_each(|_| {
                mouth.next();
            });
            ear.push(&tone(RATE, 20));
            frames.try_recv().unwrap().pcm.iter().any(|sample| *sample != 0)
        };
        shared.playback().say(&tone(RATE, 100));
        assert!(!heard_while(50, &mut mouth), "it speaks");
        assert!(!heard_while(150, &mut mouth), "the room echoes");
        assert!(heard_while(300, &mut mouth), "all is quiet");
    }

    #[test]
    fn what_is_said_comes_out_at_the_devices_rate() {
        let shared = Arc::new(Shared::default());
        let mut mouth = Mouth::new(SampleRate::HZ_44100, Arc::clone(&shared)).unwrap();
        shared.playback().say(&tone(RATE, 100));
        let out: Vec<i16> = (0..4_410).map(|_| mouth.next()).collect();
        let is_crest = |part: &&[i16]| part[1] > 4_000 && part[0] < part[1] && part[1] >= part[2];
        let crests = out.windows(3).filter(is_crest).count();
        assert!((42..=45).contains(&crests), "{crests} waves of 440 Hz in 100 ms");
        assert_eq!(shared.playback().queued(), 0);
    }

    #[tokio::test]
    async fn a_device_that_is_gone_closes_the_line() {
        let (mut ear, mut frames, shared) = ear(RATE, false);
        shared.broken.store(true, Ordering::Relaxed);
        ear.push(&tone(RATE, 40));
        assert!(frames.recv().await.is_some());
        assert!(frames.recv().await.is_none());
    }
}
