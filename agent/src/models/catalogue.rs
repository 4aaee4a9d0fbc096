//! The models there are.

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Recognition by whisper.cpp.
    Whisper,
    /// Speech detection by Silero.
    Silero,
    /// End of turn by smart-turn.
    SmartTurn,
}

/// One model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// The file's name in the store.
    pub file: &'static str,
    /// Where it comes from.
    pub url: &'static str,
    /// Its size, roughly, for people, in MiB.
    pub about_mib: u32,
    /// SHA-256, hexadecimal, where it is known for certain.
    pub sha256: Option<&'static str>,
    /// Its licence.
    pub licence: &'static str,
    /// What to know when choosing.
    pub about: &'static str,
}

macro_rules! whisper {
    ($name:literal, $mib:literal, $about:literal) => {
        Model {
            name: concat!("whisper-", $name),
            kind: Kind::Whisper,
            file: concat!("ggml-", $name, ".bin"),
            url: concat!("https://huggingface.co/ggerganov/whisper.cpp/resolve/main/ggml-", $name, ".bin"),
            about_mib: $mib,
            sha256: None,
            licence: "MIT",
            about: $about,
        }
    };
}

/// All models, the usual choice of each kind first.
///
/// No digest stands here that was not read from the publisher: none publishes SHA-256 in a place we could check.
pub const CATALOGUE: &[Model] = &[
    whisper!("base.en-q5_1", 57, "English; the usual choice for two to four cores"),
    whisper!("tiny.en-q5_1", 31, "English; the fastest, makes more mistakes"),
    whisper!("tiny.en", 75, "English; as above, not quantised"),
    whisper!("base.en", 142, "English; as above, not quantised"),
    whisper!("small.en-q5_1", 181, "English; better, wants eight cores"),
    whisper!("tiny-q5_1", 31, "99 languages; the fastest"),
    whisper!("base-q5_1", 57, "99 languages"),
    whisper!("small-q5_1", 181, "99 languages; better, wants eight cores"),
    Model {
        name: "silero-vad",
        kind: Kind::Silero,
        file: "silero_vad.onnx",
        url: "https://github.com/snakers4/silero-vad/raw/v6.2/src/silero_vad/data/silero_vad.onnx",
        about_mib: 3,
        sha256: None,
        licence: "MIT",
        about: "tells speech from noise, music and tones far better than the built-in detector",
    },
    Model {
        name: "smart-turn",
        kind: Kind::SmartTurn,
        file: "smart-turn-v3.2-cpu.onnx",
        url: "https://huggingface.co/pipecat-ai/smart-turn-v3/resolve/main/smart-turn-v3.2-cpu.onnx",
        about_mib: 9,
        sha256: None,
        licence: "BSD-2-Clause",
        about: "judges from the sound of a voice whether its sentence is at its end",
    },
];

/// The model of this name.
pub fn find(name: &str) -> Option<&'static Model> {
    CATALOGUE.iter().find(|model| model.name == name)
}
