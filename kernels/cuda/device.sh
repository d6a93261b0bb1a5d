#!/usr/bin/env bash
# On a machine with a Hopper GPU: check the kernels, then time them and their competitors. Needs what `make test-cuda-binary` built
# (kernels/cuda/build), a driver, and PyTorch for the competitors; neither Go nor nvcc.
#
# usage: device.sh STEP...      OUT=folder for results (kernels/cuda/build/out)
#   check        every check and the suite of all backends; goes on after a failure
#   verify       `quantize kernels verify` on the checkpoint VERIFY, with build/quantize
#   sanitize     compute-sanitizer over small shapes
#   ceilings     the card's read bandwidth and tensor rate
#   tune         the kernels that suit: TOKENS=1,16,64 NK=6144x4096,..., QUANTIZE_CODES=signed8|signed7|table; DISPATCHED=1: those of the table
#   bench        the table's kernels for all of TOKENS and NK, exact (signed7) and lut, and their competitors
#   profile      Nsight Compute over the prefill kernels: PROFILE=M,shape
#   competitors  cuBLAS, cuBLASLt and, where PYTHONPATH has vLLM 0.26, its W4A8 kernel: TOKENS, NK
#   attcheck     the suite of attention; CAPTURED=file of mkcaptured: on a model's operands too
#   attspeed     attention's speed, checked against float64 first; QUANTIZE_HADAMARD=1: INT8 queries and keys turned
#   attcompetitors  FlashAttention and cuDNN through PyTorch, the same shapes
#   kvcheck      the INT4 cache: decode attention and appending, against their twins
#   kvspeed      decode attention: microseconds and the share of the read bandwidth; a star marks the chosen division
#   cachedspeed  prefill attention over an INT4 cache
#   kvcompetitors  PyTorch's attention at the same shapes: KV=BxSxHEADSxKVHEADSxD,...
set -uo pipefail
cd "$(dirname "$0")"
out=${OUT:-build/out}
mkdir -p "$out"
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}:/usr/local/nvidia/lib64:/usr/local/cuda/compat"
test=build/cuda.test
limit=${LIMIT:-60}
failed=0
run() { # NAME COMMAND...: with a time limit, output kept
  local name=$1 begin=$SECONDS; shift
  echo "== $name"
  timeout "$limit" "$@" > "$out/$name.log" 2>&1
  local rc=$?
  grep -vE '^(=== |--- PASS|    --- PASS|PASS|ok )' "$out/$name.log" | cut -c1-${WIDTH:-300} | head -${LINES_SHOWN:-60}
  echo "-- $name: exit $rc, $((SECONDS - begin)) s"
  [ $rc -eq 0 ] || failed=1
}
# Llama-3-8B, Llama-2-7B, Qwen3-32B and a rank of Llama-3-70B in eight: q, k, v; o; gate, up; down
NK=${NK:-6144x4096,4096x4096,28672x4096,4096x14336,12288x4096,22016x4096,4096x11008,10240x5120,5120x8192,51200x5120,5120x25600,1280x8192,8192x1024,7168x8192,8192x3584}
TOKENS=${TOKENS:-1,8,16,32,64,96,128,256,512,1024,2048,4096,8192}
tune() { # TAG
  QUANTIZE_TUNE=$TOKENS QUANTIZE_SHAPES=$NK QUANTIZE_TUNE_OUT="$out/tune-$1.json" LINES_SHOWN=${TUNE_LINES:-400} run "tune-$1" $test -test.run TestTune -test.v
}
for step in "$@"; do
  case $step in
    check)
      run checks $test -test.v -test.run TestChecks -test.count 1
      run kerneltest $test -test.v -test.run 'TestKernels|TestError' -test.count 1
      run kv $test -test.v -test.run 'TestKVDecode|TestKVAppend' -test.count 1
      ;;
    verify) # VERIFY=a quantized checkpoint, beside build/quantize
      run verify build/quantize kernels verify "$VERIFY"
      ;;
    sanitize)
      for tool in memcheck racecheck synccheck; do
        run "sanitize-$tool" compute-sanitizer --tool $tool --error-exitcode 9 $test -test.run TestSmall -test.v
      done
      ;;
    ceilings) QUANTIZE_TUNE=1 run ceilings $test -test.run TestCeilings -test.v ;;
    tune) tune "${TAG:-0}" ;;
    bench)
      QUANTIZE_DISPATCHED=1 QUANTIZE_CODES=signed7 tune exact
      QUANTIZE_DISPATCHED=1 QUANTIZE_CODES=table tune lut
      run competitors python3 competitors.py "$out/competitors.json" "$NK" "$TOKENS"
      ;;
    profile) # PROFILE=M,shape
      QUANTIZE_PROFILE=$PROFILE run profile ncu --clock-control none --csv --page raw -k "regex:prefill|decode" --section SpeedOfLight --section ComputeWorkloadAnalysis \
        --section SchedulerStats --section WarpStateStats --section MemoryWorkloadAnalysis_Tables --section InstructionStats $test -test.run TestProfile
      ;;
    competitors) run "competitors-${TAG:-0}" python3 competitors.py "$out/competitors-${TAG:-0}.json" "$NK" "$TOKENS" ;;
    attcheck)
      QUANTIZE_CAPTURED=${CAPTURED:-} run attention $test -test.v -test.run 'TestAttention|TestCapturedAttention' -test.count 1
      ;;
    attspeed) QUANTIZE_ATTENTION="$out/attention.json" run attspeed $test -test.run TestAttentionSpeed -test.v ;;
    attcompetitors) run attcompetitors python3 prefill_competitors.py "$out/attention-competitors.json" ;;
    kvcheck) run kvcheck $test -test.v -test.run 'TestKV(Decode|Append|Places|PutGet|Plan|Kernels)' -test.count 1 ;;
    kvspeed) QUANTIZE_KV_SPEED=1 QUANTIZE_KV_SPEED_OUT="$out/kvspeed.json" run kvspeed $test -test.v -test.run TestKVSpeed ;;
    cachedspeed) QUANTIZE_CACHED_SPEED=1 run cachedspeed $test -test.v -test.run TestCachedSpeed ;;
    kvcompetitors)
      run kvcompetitors python3 decode_competitors.py "$out/kvcompetitors.json" \
        "${KV:-64x4096x32x8x128,16x8192x32x8x128,1x32768x32x8x128,16x8192x32x8x64}"
      ;;
    *) echo "unknown step $step"; exit 2 ;;
  esac
done
exit $failed
