package model

import (
	"slices"
	"strings"
)

// neutral lists fields of other architectures and of generic code that change
// the forward pass unless they show this value.
var neutral = map[string]any{
	"hidden_act":                       []any{"silu", "swish"},
	"hidden_activation":                []any{"silu", "swish"},
	"is_encoder_decoder":               false,
	"add_cross_attention":              false,
	"tie_encoder_decoder":              false,
	"partial_rotary_factor":            1.0,
	"rotary_pct":                       1.0,
	"rope_interleaved":                 false,
	"logit_scale":                      1.0,
	"logits_scaling":                   1.0,
	"embedding_multiplier":             1.0,
	"residual_multiplier":              1.0,
	"final_logit_softcapping":          nil,
	"attn_logit_softcapping":           nil,
	"attention_multiplier":             nil,
	"query_pre_attn_scalar":            nil,
	"clip_qkv":                         nil,
	"qk_layernorm":                     false,
	"use_bias":                         false,
	"lm_head_bias":                     false,
	"scale_embedding":                  false,
	"per_layer_config":                 nil,
	"no_rope_layers":                   nil,
	"no_rope_layer_interval":           nil,
	"num_nextn_predict_layers":         0.0,
	"original_max_position_embeddings": nil,
}

// withoutExperts is what an architecture without experts may say about them.
var withoutExperts = map[string]any{
	"num_experts":       []any{0.0, 1.0},
	"num_local_experts": []any{0.0, 1.0},
}

// harmless names fields that do not touch the logits of a forward pass:
// training, generation, tokens, classification heads, caches, bookkeeping.
var harmless = strings.Fields(`
	architectures auto_map transformers_version transformers.js_config is_llama_config
	name_or_path model_name base_model license library_name tags task_specific_params finetuning_task
	unsloth_fixed unsloth_version quantization_config compression_config torchscript use_bfloat16
	attn_implementation use_flash_attention use_flash_attn flash_attention use_cache cache_implementation
	gradient_checkpointing chunk_size_feed_forward pretraining_tp tensor_parallel is_decoder
	attention_dropout hidden_dropout resid_pdrop embd_pdrop attn_pdrop hidden_dropout_prob dropout
	classifier_dropout initializer_range initializer_factor init_std z_loss
	bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id
	decoder_start_token_id bos_token eos_token pad_token unk_token tokenizer_class prefix
	id2label label2id num_labels problem_type return_dict output_attentions output_hidden_states
	output_scores return_dict_in_generate remove_invalid_values
	max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups
	diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty
	no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
	forced_bos_token_id forced_eos_token_id suppress_tokens begin_suppress_tokens
	output_router_logits router_aux_loss_coef router_jitter_noise
	exponential_decay_length_penalty tf_legacy_loss max_sequence_length model_max_length seq_length
`)

func isHarmless(name string) bool {
	return strings.HasPrefix(name, "_") || slices.Contains(harmless, name)
}
