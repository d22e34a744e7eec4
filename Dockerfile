# A mesh in a container: ostro, its sample programs and a stock Envoy. packaging/build-image.sh lays out `dist/` and builds this.
#
#   docker run --rm -it -p 8080:8080 \
#     --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined \
#     ostro demo
#
# The three options let the container make namespaces of its own and a /proc in them; it gets no capability for it.
FROM debian:bookworm-slim
COPY dist/bin/ostro dist/bin/ostro-sample dist/bin/envoy /usr/local/bin/
COPY dist/LICENSE dist/README.md /usr/share/doc/ostro/
ENV OSTRO_ENVOY=/usr/local/bin/envoy
ENTRYPOINT ["/usr/local/bin/ostro"]
CMD ["demo", "--ingress", "0.0.0.0:8080"]
