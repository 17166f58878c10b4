.PHONY: proto
proto: $(STAMP) ## the gRPC messages again, from oip.proto
	cd src/fiduciary/gate && ../../../$(BIN)/python -m grpc_tools.protoc -I. --descriptor_set_out=oip.binpb oip.proto
	cd src/fiduciary/gate && ../../../$(BIN)/python -c 'import base64, pathlib, textwrap; from google.protobuf import descriptor_pb2 as d; \
	  file = d.FileDescriptorSet.FromString(pathlib.Path("oip.binpb").read_bytes()).file[0].SerializeToString(); \
	  lines = "\n".join("    \"%s\"" % line for line in textwrap.wrap(base64.b64encode(file).decode(), 100)); \
	  pathlib.Path("_oip_pb2.py").write_text("# Written by `make proto` from oip.proto.\nDESCRIPTOR = (\n" + lines + "\n)\n")'
	rm src/fiduciary/gate/oip.binpb
