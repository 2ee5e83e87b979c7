
# As at the end of dockers/infer-dev/Dockerfile, but for sshd, which is PeiDocker's.
ENV INFER_DEV_USER=dev \
    INFER_DEV_SSHD= \
    INFER_DEV_PATH=${PATH} \
    LANG=C.UTF-8 \
    DISABLE_AUTOUPDATER=1 \
    LITELLM_LOCAL_MODEL_COST_MAP=True
WORKDIR /hard/volume/workspace
EXPOSE 22 8000 8080 8081
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["/opt/infer-dev/bin/infer-dev", "status"]
