package org.meltemi.brpc;

import com.baidu.brpc.protocol.BrpcMeta;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;

/**
 * A service that says who answered. What is sent is a message that protobuf brings with it: the text is its name; the
 * server adds its own as the package, and what it got in brpc-java's ext_fields as a dependency. An attachment comes back.
 */
public interface Echo {

    @BrpcMeta(serviceName = "meltemi.tests.Echo", methodName = "Echo")
    FileDescriptorProto echo(FileDescriptorProto request);

    @BrpcMeta(serviceName = "meltemi.tests.Echo", methodName = "Slow")
    FileDescriptorProto slow(FileDescriptorProto request);

    @BrpcMeta(serviceName = "meltemi.tests.Echo", methodName = "Never")
    FileDescriptorProto never(FileDescriptorProto request);

    @BrpcMeta(serviceName = "meltemi.tests.Echo", methodName = "Fail")
    FileDescriptorProto fail(FileDescriptorProto request);
}
