package org.meltemi.brpc;

import com.baidu.brpc.RpcContext;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import io.netty.buffer.ByteBuf;
import java.util.Map;
import java.util.TreeMap;

/** The service. */
final class EchoServer implements Echo {

    private final String name;

    EchoServer(String name) {
        this.name = name;
    }

    @Override
    public FileDescriptorProto echo(FileDescriptorProto request) {
        Map<String, Object> fields = RpcContext.getContext().getRequestKvAttachment();
        ByteBuf attachment = RpcContext.getContext().getRequestBinaryAttachment();
        if (attachment != null) {
            RpcContext.getContext().setResponseBinaryAttachment(attachment.retain());
        }
        String told = fields == null ? "" : new TreeMap<>(fields).toString();
        return request.toBuilder().setPackage(name).addDependency(told).build();
    }

    @Override
    public FileDescriptorProto slow(FileDescriptorProto request) {
        return sleep(200, request);
    }

    @Override
    public FileDescriptorProto never(FileDescriptorProto request) {
        return sleep(60_000, request);
    }

    @Override
    public FileDescriptorProto fail(FileDescriptorProto request) {
        throw new IllegalStateException(request.getName());
    }

    private FileDescriptorProto sleep(long millis, FileDescriptorProto request) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        return echo(request);
    }
}
