"""llama.cpp's own HTTP server with a small language model of random weights, for the tests.

usage: llm_server.py PORT MODEL.gguf

Makes the model, serves it on 127.0.0.1:PORT with OpenAI's API, prints "ready", and ends when its standard input does.
What the model says makes no sense; that it was asked and that its words came is what a test looks at.
"""

import sys

import gguf
import numpy as np
import xllamacpp

WIDTH = 64  # numbers a token is made of
LAYERS = 2
HEADS = 4
INNER = 128
CONTEXT = 2048
SEED = 7

# What it says is drawn from these, so that there is something to pronounce.
WORDS = """the a we you it is are can open today tomorrow bicycle wheel chain shop help yes no good and or with for
repair new old quick slow morning afternoon please call again later thank one two three price brake light""".split()


def vocabulary():
    """Tokens with scores and types, as SentencePiece has them: control tokens, every byte, words."""
    kind = gguf.TokenType
    tokens = [(b"<unk>", 0.0, kind.UNKNOWN), (b"<s>", 0.0, kind.CONTROL), (b"</s>", 0.0, kind.CONTROL)]
    tokens += [(f"<0x{byte:02X}>".encode(), 0.0, kind.BYTE) for byte in range(256)]
    tokens += [("\u2581".encode(), -1.0, kind.NORMAL)]
    tokens += [(f"\u2581{word}".encode(), -2.0 - n, kind.NORMAL) for n, word in enumerate(WORDS)]
    tokens += [(mark, -100.0, kind.NORMAL) for mark in (b".", b",")]
    return tokens


END = 2
FULL_STOP = 3 + 256 + 1 + len(WORDS)


def write_model(path):
    """A llama of random weights. The bytes and control tokens are made unlikely, so that words come."""
    rng = np.random.default_rng(SEED)
    tokens = vocabulary()
    count = len(tokens)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random words")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(count)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
    )

    def random(*shape, spread=0.02):
        return rng.normal(0.0, spread, shape).astype(np.float32)

    # The layers add little, so that each word follows from the one before, and a full stop is followed by the end.
    embedding = random(count, WIDTH, spread=1.0)
    output = random(count, WIDTH, spread=0.5)
    output[: 3 + 256] = 0.0
    output[END] = embedding[FULL_STOP]
    output[FULL_STOP] += 0.3 * embedding[3 + 256 : FULL_STOP].mean(axis=0) * len(WORDS) ** 0.5
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{name}.weight", np.ones(WIDTH, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}.{name}.weight", random(WIDTH, WIDTH))
        writer.add_tensor(f"{block}.ffn_gate.weight", random(INNER, WIDTH))
        writer.add_tensor(f"{block}.ffn_up.weight", random(INNER, WIDTH))
        writer.add_tensor(f"{block}.ffn_down.weight", random(WIDTH, INNER))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    port, path = int(sys.argv[1]), sys.argv[2]
    write_model(path)
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.sampling.seed = SEED
    server = xllamacpp.Server(params)
    print("ready", server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
