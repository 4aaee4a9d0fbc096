//! Which sound devices there are, and what to do where there are none.

use std::fmt;

use anyhow::{Context, bail};
use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{BufferSize, Device, SampleFormat, StreamConfig, SupportedBufferSize, SupportedStreamConfig};

/// Rates that can be brought to the line's, the best first.
const RATES: [u32; 7] = [16_000, 48_000, 32_000, 24_000, 44_100, 22_050, 8_000];

/// Buffers of a hundredth of a second, where the device has them.
const BUFFERS_A_SECOND: u32 = 100;

/// This machine's sound devices.
pub struct Devices {
    inputs: Vec<Found>,
    outputs: Vec<Found>,
    fault: Option<String>,
}

/// A device with its name.
struct Found {
    name: String,
    is_default: bool,
    device: Device,
}

/// A device and how it is opened.
pub struct Chosen {
    pub(super) name: String,
    pub(super) device: Device,
    pub(super) format: SampleFormat,
    pub(super) config: StreamConfig,
}

impl Devices {
    /// Asks the system.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let host = cpal::default_host();
        let mut fault = None;
        let mut found = |devices: Result<Vec<Device>, cpal::Error>, default: Option<Device>| {
            let devices = devices.unwrap_or_else(|error| {
                fault = Some(error.to_string());
                Vec::new()
            });
            let default = default.and_then(|device| device.id().ok());
            let named = devices.into_iter().filter(|device| !is_null(device)).filter_map(|device| {
                let name = device.description().ok()?.name().to_owned();
                let is_default = default.is_some() && device.id().ok() == default;
                Some(Found { name, is_default, device })
            });
            named.collect()
        };
        let inputs = found(host.input_devices().map(Iterator::collect), host.default_input_device());
        let outputs = found(host.output_devices().map(Iterator::collect), host.default_output_device());
        Self { inputs, outputs, fault }
    }

    /// The two devices for a conversation: those whose names hold `input` and `output`, or the default ones.
    ///
    /// # Errors
    /// There is none, none is called that, or it speaks no format that we do.
    pub fn choose(&self, input: Option<&str>, output: Option<&str>) -> anyhow::Result<(Chosen, Chosen)> {
        Ok((self.pick(&self.inputs, input, Side::Input)?, self.pick(&self.outputs, output, Side::Output)?))
    }

    fn pick(&self, found: &[Found], name: Option<&str>, side: Side) -> anyhow::Result<Chosen> {
        let Some(first) = found.first() else { bail!("{}", self.none(side)) };
        let picked = match name {
            Some(name) => {
                let lower = name.to_lowercase();
                let named = found.iter().find(|found| found.name.to_lowercase().contains(&lower));
                named.with_context(|| format!("{side} {name:?} is not there. Known are: {}", names(found)))?
            }
            None => found.iter().find(|found| found.is_default).unwrap_or(first),
        };
        let supported =
            side.config(&picked.device).with_context(|| format!("the {side} {:?} cannot be used", picked.name))?;
        let buffer_size = match supported.buffer_size() {
            SupportedBufferSize::Range { min, max } => {
                BufferSize::Fixed((supported.sample_rate() / BUFFERS_A_SECOND).clamp(*min, *max))
            }
            SupportedBufferSize::Unknown => BufferSize::Default,
        };
        let config = StreamConfig { buffer_size, ..supported.config() };
        Ok(Chosen {
            name: picked.name.clone(),
            device: picked.device.clone(),
            format: supported.sample_format(),
            config,
        })
    }

    fn none(&self, side: Side) -> String {
        let (list, why) =
            (side.list_command(), self.fault.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default());
        format!(
            "this machine has no {side} that the sound system knows{why}. Connect one, see what `{list}` lists (Debian package \
             alsa-utils), and that you are in the group audio. Without a sound device, talk to an agent by phone: \
             `omnivox serve`, then call sip:agent@ this machine"
        )
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, found) in [("microphones", &self.inputs), ("loudspeakers", &self.outputs)] {
            writeln!(f, "{title}:")?;
            for found in found {
                writeln!(f, "  {}{}", found.name, if found.is_default { "  (default)" } else { "" })?;
            }
            if found.is_empty() {
                writeln!(f, "  none")?;
            }
        }
        Ok(())
    }
}

/// ALSA always has a device that hears silence and plays to nobody, faster than time goes by.
fn is_null(device: &Device) -> bool {
    device.id().is_ok_and(|id| id.id() == "null")
}

fn names(found: &[Found]) -> String {
    found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn list_command(self) -> &'static str {
        match self {
            Self::Input => "arecord --list-devices",
            Self::Output => "aplay --list-devices",
        }
    }

    /// The device's own configuration, or the nearest one at a rate that we can convert.
    fn config(self, device: &Device) -> anyhow::Result<SupportedStreamConfig> {
        let default = match self {
            Self::Input => device.default_input_config(),
            Self::Output => device.default_output_config(),
        };
        if let Ok(default) = &default
            && RATES.contains(&default.sample_rate())
        {
            return Ok(*default);
        }
        let ranges: Vec<_> = match self {
            Self::Input => device.supported_input_configs()?.collect(),
            Self::Output => device.supported_output_configs()?.collect(),
        };
        let at_a_rate = RATES.iter().find_map(|rate| ranges.iter().find_map(|range| range.try_with_sample_rate(*rate)));
        at_a_rate.context("it has none of the rates from 8 to 48 kHz")
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "microphone",
            Self::Output => "loudspeaker",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[test]
    fn where_there_is_no_device_it_is_said_what_to_do() {
        let none = Devices { inputs: Vec::new(), outputs: Vec::new(), fault: Some("no such thing".into()) };
        let Err(fault) = none.choose(None, None) else { panic!("a device out of nothing") };
        let fault = fault.to_string();
        for part in ["no microphone", "no such thing", "arecord", "group audio", "omnivox serve"] {
            assert!(fault.contains(part), "{fault}");
        }
        assert_eq!(none.to_string(), "microphones:\n  none\nloudspeakers:\n  none\n");
    }
}
