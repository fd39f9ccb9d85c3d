"""Models of transformers from small configurations, called by keywords as its Trainer calls them.

Text comes with an attention mask that has padding in it; nothing is cached between calls (`use_cache=False`, as in
training).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from .entry import Entry, Example, Samples

__all__ = ["entries"]

Spec = tuple[str, dict[str, Any], Samples]

VOCABULARY = 100
LENGTH = 12
PADDING = 1

# Sizes under the names that most configurations share; one that has other names maps them or gets them beside these.
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": PADDING,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "use_cache": False,
}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 8}
EXPERTS = {**GROUPED, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
PAIR: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": PADDING,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 2,
    "use_cache": False,
}
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 3,
    "num_heads": 4,
    "pad_token_id": PADDING,
    "decoder_start_token_id": 2,
    "use_cache": False,
}
PATCHES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
STAGES: dict[str, Any] = {"embed_dim": 16, "depths": [1, 1, 2], "num_heads": [2, 2, 4], "image_size": 64}
CONVOLUTIONS: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
SOUND: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16, 16, 16),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 4, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 16,
    "vocab_size": 32,
}


def pixels(size: int, channels: int = 3) -> Samples:
    """Images [N, C, size, size]."""
    return lambda rows: {"pixel_values": torch.randn(rows, channels, size, size)}


def frames(count: int, size: int) -> Samples:
    """Videos [N, T, 3, size, size]."""
    return lambda rows: {"pixel_values": torch.randn(rows, count, 3, size, size)}


def text(rows: int) -> Example:
    """Token numbers and a mask [N, 12], padded on the right by 0 to 4."""
    mask = (torch.arange(LENGTH) < LENGTH - torch.arange(rows).unsqueeze(1) % 5).long()
    numbers = torch.randint(4, VOCABULARY, (rows, LENGTH))
    return {"input_ids": numbers.where(mask.bool(), torch.tensor(PADDING)), "attention_mask": mask}


def text_pair(rows: int) -> Example:
    """What goes into an encoder, and what its decoder has said."""
    given = text(rows)
    assert isinstance(given, dict)
    return {**given, "decoder_input_ids": torch.randint(4, VOCABULARY, (rows, 7))}


def sentence_end(rows: int) -> Example:
    """As `text`, each sentence closed by the token that BART's classifier looks for."""
    given = text(rows)
    assert isinstance(given, dict)
    last = given["attention_mask"].sum(1, keepdim=True) - 1
    return {**given, "input_ids": given["input_ids"].scatter(1, last, 3)}


def sound(rows: int) -> Example:
    """Waves [N, 4000] and their mask."""
    mask = (torch.arange(4000) < 4000 - 500 * (torch.arange(rows).unsqueeze(1) % 3)).long()
    return {"input_values": torch.randn(rows, 4000) * mask, "attention_mask": mask}


def spectrum(name: str, *shape: int) -> Samples:
    """A spectrogram of each sample under the name that the model has for it."""
    return lambda rows: {name: torch.randn(rows, *shape)}


def spoken(rows: int) -> Example:
    """A spectrogram, and what the decoder has said."""
    return {
        "input_features": torch.randn(rows, 16, 100),
        "decoder_input_ids": torch.randint(4, VOCABULARY, (rows, 7)),
    }


def image_and_text(size: int) -> Samples:
    """As many sentences as images."""

    def sample(rows: int) -> Example:
        given = text(rows)
        assert isinstance(given, dict)
        return {**given, "pixel_values": torch.randn(rows, 3, size, size)}

    return sample


def boxed(rows: int) -> Example:
    """Text on a page: a box [N, 12, 4] for each token."""
    given = text(rows)
    assert isinstance(given, dict)
    corner = torch.randint(0, 40, (rows, LENGTH, 2))
    return {**given, "bbox": torch.cat([corner, corner + 10], dim=2)}


def masked_patches(rows: int) -> Example:
    """Images, and for each of 16 patches whether it is hidden."""
    return {"pixel_values": torch.randn(rows, 3, 32, 32), "bool_masked_pos": hidden(rows, 16)}


def hidden(rows: int, patches: int) -> Tensor:
    return (torch.arange(patches) % 3 == 0).expand(rows, patches).clone()


def joint(kind: str) -> dict[str, Any]:
    """Two small configurations in one, as CLIP has it."""
    sizes = {name: PATCHES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    words = {**sizes, "intermediate_size": 64, "vocab_size": VOCABULARY, "max_position_embeddings": 32}
    words |= {"pad_token_id": PADDING, "bos_token_id": 2, "eos_token_id": 99, "projection_size": 32}
    both = {"text_config": words, "vision_config": dict(PATCHES)}
    return both if kind == "siglip" else {**both, "projection_dim": 32}


SPECS: dict[str, Spec] = {
    # images
    "vit": ("ViTForImageClassification", PATCHES, pixels(32)),
    "vit_mae": ("ViTMAEForPreTraining", {**PATCHES, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 2,
                "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}, pixels(32)),
    "vit_msn": ("ViTMSNForImageClassification", PATCHES, pixels(32)),
    "vit_masked": ("ViTForMaskedImageModeling", {**PATCHES, "encoder_stride": 8}, masked_patches),
    "deit": ("DeiTForImageClassification", PATCHES, pixels(32)),
    "deit_with_teacher": ("DeiTForImageClassificationWithTeacher", PATCHES, pixels(32)),
    "beit": ("BeitForImageClassification", PATCHES, pixels(32)),
    "data2vec_vision": ("Data2VecVisionForImageClassification", PATCHES, pixels(32)),
    "dinov2": ("Dinov2ForImageClassification", PATCHES, pixels(32)),
    "dinov2_with_registers": ("Dinov2WithRegistersForImageClassification", PATCHES, pixels(32)),
    "dinov3_vit": ("DINOv3ViTModel", PATCHES, pixels(32)),
    "ijepa": ("IJepaForImageClassification", PATCHES, pixels(32)),
    "imagegpt": ("ImageGPTForImageClassification", {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32,
                 "n_layer": 3, "n_head": 4, "use_cache": False},
                 lambda rows: {"input_ids": torch.randint(0, VOCABULARY - 1, (rows, 16))}),
    "convnext": ("ConvNextForImageClassification", CONVOLUTIONS, pixels(64)),
    "convnextv2": ("ConvNextV2ForImageClassification", CONVOLUTIONS, pixels(64)),
    "resnet": ("ResNetForImageClassification", {**CONVOLUTIONS, "embedding_size": 8}, pixels(64)),
    "regnet": ("RegNetForImageClassification", {**CONVOLUTIONS, "embedding_size": 8, "groups_width": 8}, pixels(64)),
    "bit": ("BitForImageClassification", {**CONVOLUTIONS, "hidden_sizes": [32, 32, 64, 64], "embedding_size": 32,
            "num_groups": 8}, pixels(64)),
    "hgnet_v2": ("HGNetV2ForImageClassification", {}, pixels(64)),
    "efficientnet": ("EfficientNetForImageClassification", {"image_size": 64, "width_coefficient": 0.5,
                     "depth_coefficient": 0.5, "hidden_dim": 640}, pixels(64)),
    "mobilenet_v1": ("MobileNetV1ForImageClassification", {"depth_multiplier": 0.25, "image_size": 64}, pixels(64)),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", {"depth_multiplier": 0.35, "image_size": 64}, pixels(64)),
    "mobilevit": ("MobileViTForImageClassification", {"image_size": 64, "hidden_sizes": [16, 24, 32],
                  "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]}, pixels(64)),
    "mobilevitv2": ("MobileViTV2ForImageClassification", {"image_size": 64, "width_multiplier": 0.5}, pixels(64)),
    "swin": ("SwinForImageClassification", {**STAGES, "window_size": 4, "patch_size": 4}, pixels(64)),
    "swinv2": ("Swinv2ForImageClassification", {**STAGES, "window_size": 4, "patch_size": 4}, pixels(64)),
    "donut_swin": ("DonutSwinForImageClassification", {**STAGES, "window_size": 4, "patch_size": 4}, pixels(64)),
    "focalnet": ("FocalNetForImageClassification", {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1],
                 "hidden_sizes": [16, 32, 64, 128], "focal_levels": [2, 2, 2, 2], "focal_windows": [3, 3, 3, 3]},
                 pixels(64)),
    "hiera": ("HieraForImageClassification", {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 2, 2, 1],
              "num_heads": [1, 2, 4, 8]}, pixels(64)),
    "segformer": ("SegformerForImageClassification", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1],
                  "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 16}, pixels(64)),
    "segformer_segmentation": ("SegformerForSemanticSegmentation", {"hidden_sizes": [8, 16, 24, 32],
                               "depths": [1, 1, 2, 1], "num_attention_heads": [1, 2, 2, 4],
                               "decoder_hidden_size": 16}, pixels(64)),
    "pvt": ("PvtForImageClassification", {"image_size": 64, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1],
            "num_attention_heads": [1, 2, 2, 4]}, pixels(64)),
    "pvt_v2": ("PvtV2ForImageClassification", {"image_size": 64, "hidden_sizes": [8, 16, 24, 32],
               "depths": [1, 1, 2, 1], "num_attention_heads": [1, 2, 2, 4]}, pixels(64)),
    "poolformer": ("PoolFormerForImageClassification", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
                   pixels(64)),
    "levit": ("LevitForImageClassification", {"image_size": 64, "hidden_sizes": [16, 24, 32], "depths": [2, 2, 2],
              "num_attention_heads": [2, 2, 4], "key_dim": [8, 8, 8]}, pixels(64)),
    "cvt": ("CvtForImageClassification", {"embed_dim": [8, 16, 24], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
            pixels(64)),
    "swiftformer": ("SwiftFormerForImageClassification", {"depths": [1, 1, 2, 1], "embed_dims": [16, 24, 32, 48]},
                    pixels(64)),
    "textnet": ("TextNetForImageClassification", {}, pixels(64)),
    "pp_lcnet": ("PPLCNetForImageClassification", {}, pixels(64)),
    "dinat": ("DinatForImageClassification", {"embed_dim": 16, "depths": [1, 1, 2], "num_heads": [2, 2, 4]},
              pixels(64)),
    "perceiver": ("PerceiverForImageClassificationConvProcessing", {"num_latents": 8, "d_latents": 32,
                  "num_self_attends_per_block": 2, "num_self_attention_heads": 4, "num_cross_attention_heads": 1,
                  "num_labels": 5}, lambda rows: {"inputs": torch.randn(rows, 3, 224, 224)}),
    "yolos": ("YolosForObjectDetection", {**PATCHES, "image_size": [32, 32], "num_detection_tokens": 6}, pixels(32)),
    "dpt": ("DPTForDepthEstimation", {**PATCHES, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}, pixels(32)),
    "glpn": ("GLPNForDepthEstimation", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1],
             "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 16}, pixels(64)),
    "siglip_vision": ("SiglipForImageClassification", {"vision_config": dict(PATCHES)}, pixels(32)),
    "clip_vision": ("CLIPForImageClassification", {"vision_config": dict(PATCHES)}, pixels(32)),
    "clip": ("CLIPModel", joint("clip"), image_and_text(32)),
    "siglip": ("SiglipModel", joint("siglip"), image_and_text(32)),
    "videomae": ("VideoMAEForVideoClassification", {**PATCHES, "num_frames": 4}, frames(4, 32)),
    "timesformer": ("TimesformerForVideoClassification", {**PATCHES, "num_frames": 4}, frames(4, 32)),
    "vivit": ("VivitForVideoClassification", {**PATCHES, "num_frames": 4, "tubelet_size": [2, 8, 8]}, frames(4, 32)),
    # text
    "bert": ("BertForSequenceClassification", TEXT, text),
    "bert_masked": ("BertForMaskedLM", TEXT, text),
    "bert_tokens": ("BertForTokenClassification", TEXT, text),
    "distilbert": ("DistilBertForSequenceClassification", {**TEXT, "dim": 32, "n_layers": 3, "n_heads": 4,
                   "hidden_dim": 64}, text),
    "roberta": ("RobertaForSequenceClassification", TEXT, text),
    "xlm_roberta": ("XLMRobertaForSequenceClassification", TEXT, text),
    "electra": ("ElectraForSequenceClassification", {**TEXT, "embedding_size": 16}, text),
    "deberta": ("DebertaForSequenceClassification", {**TEXT, "relative_attention": True,
                "pos_att_type": ["c2p", "p2c"]}, text),
    "deberta_v2": ("DebertaV2ForSequenceClassification", {**TEXT, "relative_attention": True,
                   "pos_att_type": ["c2p", "p2c"]}, text),
    "albert": ("AlbertForSequenceClassification", {**TEXT, "embedding_size": 16}, text),
    "mpnet": ("MPNetForSequenceClassification", TEXT, text),
    "fnet": ("FNetForSequenceClassification", {**TEXT, "tpu_short_seq_length": LENGTH},
             lambda rows: {"input_ids": torch.randint(4, VOCABULARY, (rows, LENGTH))}),
    "camembert": ("CamembertForSequenceClassification", TEXT, text),
    "convbert": ("ConvBertForSequenceClassification", {**TEXT, "embedding_size": 16}, text),
    "squeezebert": ("SqueezeBertForSequenceClassification", {**TEXT, "embedding_size": 32}, text),
    "mobilebert": ("MobileBertForSequenceClassification", {**TEXT, "embedding_size": 16, "intra_bottleneck_size": 16,
                   "true_hidden_size": 16}, text),
    "modernbert": ("ModernBertForSequenceClassification", TEXT, text),
    "nystromformer": ("NystromformerForSequenceClassification", {**TEXT, "num_landmarks": LENGTH,
                      "segment_means_seq_len": LENGTH}, text),
    "roformer": ("RoFormerForSequenceClassification", TEXT, text),
    "rembert": ("RemBertForSequenceClassification", {**TEXT, "input_embedding_size": 16, "output_embedding_size": 16},
                text),
    "esm": ("EsmForSequenceClassification", {**TEXT, "mask_token_id": 4, "position_embedding_type": "rotary"}, text),
    "funnel": ("FunnelForSequenceClassification", {"vocab_size": VOCABULARY, "block_sizes": [1, 1, 1], "d_model": 32,
               "n_head": 4, "d_head": 8, "d_inner": 64, "num_decoder_layers": 1}, text),
    "longformer": ("LongformerForSequenceClassification", {**TEXT, "attention_window": [4, 4, 4]}, text),
    "xlnet": ("XLNetForSequenceClassification", {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 3, "n_head": 4,
              "d_inner": 64, "pad_token_id": PADDING, "use_mems_eval": False}, text),
    "layoutlm": ("LayoutLMForSequenceClassification", {**TEXT, "max_2d_position_embeddings": 64}, boxed),
    "gpt2": ("GPT2LMHeadModel", TEXT, text),
    "gpt2_classifier": ("GPT2ForSequenceClassification", TEXT, text),
    "gpt_neo": ("GPTNeoForCausalLM", {**TEXT, "num_hidden_layers": 4, "num_layers": 4, "num_heads": 4,
                "attention_types": [[["global", "local"], 2]]}, text),
    "gpt_neox": ("GPTNeoXForCausalLM", TEXT, text),
    "gptj": ("GPTJForCausalLM", {**TEXT, "rotary_dim": 4}, text),
    "opt": ("OPTForCausalLM", {**TEXT, "ffn_dim": 64, "word_embed_proj_dim": 32}, text),
    "bloom": ("BloomForCausalLM", TEXT, text),
    "falcon": ("FalconForCausalLM", TEXT, text),
    "llama": ("LlamaForCausalLM", GROUPED, text),
    "llama_classifier": ("LlamaForSequenceClassification", GROUPED, text),
    "mistral": ("MistralForCausalLM", {**GROUPED, "sliding_window": 8}, text),
    "mixtral": ("MixtralForCausalLM", EXPERTS, text),
    "qwen2": ("Qwen2ForCausalLM", GROUPED, text),
    "qwen3": ("Qwen3ForCausalLM", GROUPED, text),
    "qwen3_moe": ("Qwen3MoeForCausalLM", EXPERTS, text),
    "gemma": ("GemmaForCausalLM", GROUPED, text),
    "gemma2": ("Gemma2ForCausalLM", GROUPED, text),
    "gemma3": ("Gemma3ForCausalLM", GROUPED, text),
    "phi": ("PhiForCausalLM", {**TEXT, "partial_rotary_factor": 0.5}, text),
    "phi3": ("Phi3ForCausalLM", GROUPED, text),
    "stablelm": ("StableLmForCausalLM", GROUPED, text),
    "starcoder2": ("Starcoder2ForCausalLM", GROUPED, text),
    "olmo2": ("Olmo2ForCausalLM", GROUPED, text),
    "granite": ("GraniteForCausalLM", GROUPED, text),
    "smollm3": ("SmolLM3ForCausalLM", GROUPED, text),
    "mamba": ("MambaForCausalLM", {**TEXT, "state_size": 4}, text),
    "rwkv": ("RwkvForCausalLM", {**TEXT, "attention_hidden_size": 32}, text),
    "t5": ("T5ForConditionalGeneration", T5, text_pair),
    "t5_encoder": ("T5EncoderModel", T5, text),
    "mt5": ("MT5ForConditionalGeneration", T5, text_pair),
    "bart": ("BartForConditionalGeneration", PAIR, text_pair),
    "bart_classifier": ("BartForSequenceClassification", PAIR, sentence_end),
    "mbart": ("MBartForConditionalGeneration", PAIR, text_pair),
    "marian": ("MarianMTModel", PAIR, text_pair),
    "pegasus": ("PegasusForConditionalGeneration", PAIR, text_pair),
    # sound
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", SOUND, sound),
    "wav2vec2_ctc": ("Wav2Vec2ForCTC", SOUND, sound),
    "hubert": ("HubertForSequenceClassification", SOUND, sound),
    "wavlm": ("WavLMForSequenceClassification", SOUND, sound),
    "sew": ("SEWForSequenceClassification", {**SOUND, "squeeze_factor": 2}, sound),
    "unispeech": ("UniSpeechForSequenceClassification", SOUND, sound),
    "data2vec_audio": ("Data2VecAudioForSequenceClassification", SOUND, sound),
    "ast": ("ASTForAudioClassification", {**PATCHES, "max_length": 32, "num_mel_bins": 16, "frequency_stride": 4,
            "time_stride": 4}, spectrum("input_values", 32, 16)),
    "whisper": ("WhisperForConditionalGeneration", {**PAIR, "num_mel_bins": 16, "max_source_positions": 50,
                "max_target_positions": 32}, spoken),
    "whisper_encoder": ("WhisperForAudioClassification", {**PAIR, "num_mel_bins": 16, "max_source_positions": 50,
                        "max_target_positions": 32, "classifier_proj_size": 16},
                        spectrum("input_features", 16, 100)),
}  # fmt: skip


def entries() -> list[Entry]:
    return [Entry("transformers", name, partial(build, name)) for name in SPECS]


def build(name: str) -> tuple[nn.Module, Samples]:
    transformers.logging.set_verbosity_error()
    kind, sizes, samples = SPECS[name]
    cls = getattr(transformers, kind)
    model: nn.Module = cls(cls.config_class(**sizes))
    return model, samples
