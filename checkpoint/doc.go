// Package checkpoint reads and writes Hugging Face checkpoint directories.
//
//	config.json                        kept as bytes, package model reads it
//	model.safetensors                  one shard, or
//	model.safetensors.index.json       {"weight_map": {tensor: shard}} and
//	model-00001-of-0000N.safetensors   its shards
//	tokenizer.json, ...                copied untouched
//
// A shard is a length, a JSON header and the bytes of the tensors:
//
//	0       8            8+H                         file size
//	| H u64 | {"a.weight":{"dtype":"BF16",           | data: no hole, no
//	|       |   "shape":[2,4],"data_offsets":[0,16]}} |  overlap, no rest
//
// In: [Open] checks every header against its file and against the index, and
// reads no weight. [Reader.Raw] and [Reader.Matrix] read one tensor when asked.
// nlpodyssey/safetensors parses the headers; around it lie the checks that it
// makes only on a file held in memory, the ones it has not (duplicate names),
// and the FP8 dtypes, which it is shown as U8.
//
// Out: [Create] is given the names and shapes of all tensors, plans the shards
// and writes their headers first; [Writer.Add] then puts tensors in their
// places in any order; [Writer.Commit] makes the directory appear at once.
//
//	w, err := Create(out, infos, WriterOptions{})
//	defer w.Abort()                    // no-op after Commit
//	for each tensor: w.Add(name, data) or w.Copy(reader, name)
//	w.File("config.json", config)
//	err = w.Commit()
//
// Beside an output that takes long, a [Journal] keeps what is finished, so that
// a run that was killed goes on where it was.
//
// What a checkpoint says is never trusted: a length is checked against a limit
// and against the file before memory is taken for it, and a name in the index
// is a plain file name inside the directory. Bad input is a [fault.Error]
// around [ErrInvalid], trouble with the output one around [ErrOutput].
//
// The format: https://github.com/huggingface/safetensors (format section).
package checkpoint
