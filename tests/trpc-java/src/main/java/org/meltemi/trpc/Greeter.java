package org.meltemi.trpc;

import com.google.protobuf.StringValue;
import com.tencent.trpc.core.rpc.RpcContext;
import com.tencent.trpc.core.rpc.anno.TRpcMethod;
import com.tencent.trpc.core.rpc.anno.TRpcService;

/** A service that says who answered. */
@TRpcService(name = "trpc.meltemi.tests.JavaGreeter")
public interface Greeter {

    @TRpcMethod(name = "Hello")
    StringValue hello(RpcContext context, StringValue request);

    @TRpcMethod(name = "Echo")
    StringValue echo(RpcContext context, StringValue request);

    @TRpcMethod(name = "Slow")
    StringValue slow(RpcContext context, StringValue request);

    @TRpcMethod(name = "Never")
    StringValue never(RpcContext context, StringValue request);

    @TRpcMethod(name = "Fail")
    StringValue fail(RpcContext context, StringValue request);

    @TRpcMethod(name = "Broken")
    StringValue broken(RpcContext context, StringValue request);

    /** The entry of that name in the request's trans_info. */
    @TRpcMethod(name = "Meta")
    StringValue meta(RpcContext context, StringValue request);

    @TRpcMethod(name = "Note")
    StringValue note(RpcContext context, StringValue request);
}
