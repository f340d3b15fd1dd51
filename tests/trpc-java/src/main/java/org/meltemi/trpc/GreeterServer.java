package org.meltemi.trpc;

import com.google.protobuf.StringValue;
import com.tencent.trpc.core.exception.ErrorCode;
import com.tencent.trpc.core.exception.TRpcException;
import com.tencent.trpc.core.rpc.RpcContext;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The service. */
final class GreeterServer implements Greeter {

    private final String name;
    private final Map<String, Integer> counts = new ConcurrentHashMap<>();

    GreeterServer(String name) {
        this.name = name;
    }

    /** How often each method was called, with each text. */
    Map<String, Integer> counts() {
        return counts;
    }

    @Override
    public StringValue hello(RpcContext context, StringValue request) {
        return StringValue.of(name + ": " + request.getValue());
    }

    @Override
    public StringValue echo(RpcContext context, StringValue request) {
        return request;
    }

    @Override
    public StringValue slow(RpcContext context, StringValue request) {
        return sleep(200, request);
    }

    @Override
    public StringValue never(RpcContext context, StringValue request) {
        return sleep(60_000, request);
    }

    @Override
    public StringValue fail(RpcContext context, StringValue request) {
        throw TRpcException.newBizException(10001, "%s", request.getValue());
    }

    @Override
    public StringValue broken(RpcContext context, StringValue request) {
        counts.merge("Broken:" + request.getValue(), 1, Integer::sum);
        throw TRpcException.newFrameException(ErrorCode.TRPC_SERVER_OVERLOAD_ERR, "%s", request.getValue());
    }

    @Override
    public StringValue meta(RpcContext context, StringValue request) {
        Object value = context.getReqAttachMap().get(request.getValue());
        if (value == null) {
            throw TRpcException.newBizException(404, "%s", request.getValue());
        }
        return StringValue.of(new String((byte[]) value, StandardCharsets.UTF_8));
    }

    @Override
    public StringValue note(RpcContext context, StringValue request) {
        counts.merge("Note:" + request.getValue(), 1, Integer::sum);
        return request;
    }

    private StringValue sleep(long millis, StringValue request) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        return hello(null, request);
    }
}
