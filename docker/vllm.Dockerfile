# The vision-language model's server. vLLM pins its own torch, so it is an image of its own.
# Build from the repository's root: docker build -f docker/vllm.Dockerfile -t ffpdata-vllm:0.1 .
FROM vllm/vllm-openai:v0.33.0

LABEL org.opencontainers.image.title="ffpdata-vllm" \
      org.opencontainers.image.description="The OpenAI-compatible server that ffpdata's vision-language stages ask." \
      org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3002
USER 0
RUN (userdel --remove ubuntu 2>/dev/null || true) \
    && useradd --uid 1000 --create-home --shell /bin/bash vllm \
    && install -d -o vllm -g vllm /models
ENV HF_HOME=/models/hf \
    VLLM_CACHE_ROOT=/models/vllm \
    VLLM_NO_USAGE_STATS=1
USER 1000:1000
WORKDIR /home/vllm
EXPOSE 8000
# What `ffpdata serve-vlm --profile gpu` starts: the flags of ffpdata/serve/vllm_flags.py.
ENTRYPOINT ["vllm", "serve"]
CMD ["Qwen/Qwen2.5-VL-72B-Instruct", \
     "--host", "0.0.0.0", \
     "--port", "8000", \
     "--served-model-name", "Qwen/Qwen2.5-VL-72B-Instruct", \
     "--revision", "89c86200743eec961a297729e7990e8f2ddbc4c5", \
     "--tensor-parallel-size", "2", \
     "--max-model-len", "7936", \
     "--max-num-batched-tokens", "2304", \
     "--max-num-seqs", "4", \
     "--gpu-memory-utilization", "0.95", \
     "--mm-processor-kwargs", "{\"images_kwargs\": {\"size\": {\"shortest_edge\": 3136, \"longest_edge\": 937664}}, \"videos_kwargs\": {\"size\": {\"shortest_edge\": 3136, \"longest_edge\": 234416}}}", \
     "--limit-mm-per-prompt", "{\"video\": 2, \"image\": 12}", \
     "--structured-outputs-config", "{\"backend\": \"xgrammar\", \"disable_any_whitespace\": true}", \
     "--media-io-kwargs", "{\"video\": {\"num_frames\": -1, \"fps\": 2}}", \
     "--trust-request-mm-kwargs"]
